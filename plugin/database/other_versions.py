"""See which versions of glionode use a database: each connection carries its version and schema in its name."""

from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from plugin.errors import DatabaseUnavailable

Connection = psycopg.Connection[Any]

_HEARTBEAT_S = 20
"""A worker that sent none for so long is gone; see plugin/jobs/procrastinate_queue.py."""

# Version 0.1.0 gave its connections no name. It is known by the advisory locks of its archive ("glia") and its
# destinations, and by the heartbeats of its workers.
_OLDER = """
SELECT pid, coalesce(host(client_addr), 'this host'), coalesce(nullif(application_name, ''), 'glionode 0.1.0')
FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND (
    substring(application_name FROM '^glionode .* schema ([0-9]+)$')::integer < %(schema)s
    OR application_name !~ '^glionode .* schema [0-9]+$' AND pid IN (
        SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND (
            (classid = 0 AND objid = 1735158113 AND objsubid = 1) OR (objsubid = 2 AND classid::bigint IN (
                hashtext('glionode-deliver')::bigint & 4294967295,
                hashtext('glionode-commitment')::bigint & 4294967295)))))
ORDER BY pid
"""


def named_conninfo(url: str, program: str, schema: int) -> str:
    """Return a connection string whose sessions show their version of glionode. Raises DatabaseUnavailable."""
    try:
        return make_conninfo(url, application_name=f"glionode {program} schema {schema}")
    except psycopg.ProgrammingError:
        # Not chained: the message repeats the string, and so perhaps a password.
        raise DatabaseUnavailable("database.url is no connection string of PostgreSQL; correct it.") from None


def older_processes(connection: Connection, schema: int, workers: bool) -> tuple[str, ...]:
    """Return a description of each process of a version for an older schema that uses the database now.

    With `workers`, every worker counts: those of this version do not run on an older schema.
    """
    sessions = connection.execute(_OLDER, {"schema": schema}).fetchall()
    found = [f"{name} on {host} (session {pid})" for pid, host, name in sessions]
    if not workers or connection.execute("SELECT to_regclass('procrastinate_workers')").fetchone() == (None,):
        return tuple(found)
    alive = connection.execute(
        "SELECT id FROM procrastinate_workers WHERE last_heartbeat > now() - make_interval(secs => %s) ORDER BY id",
        (_HEARTBEAT_S,),
    ).fetchall()
    return (*found, *(f"`glionode work` (worker {number}, by its heartbeat)" for (number,) in alive))
