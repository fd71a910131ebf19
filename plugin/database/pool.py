"""Open the PostgreSQL database, embedded or on a server, with procrastinate's tables and ours.

Every session, whoever opens it, has the options that `database_url` adds: each end notices within half a minute that
the other one has vanished without closing the connection.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import ConnectionPool, PoolTimeout

from models.software_version import software_version
from plugin.database.embedded_postgres import EmbeddedPostgres, embedded_url, start_postgres
from plugin.database.other_versions import named_conninfo
from plugin.database.schema import SCHEMA_VERSION
from plugin.errors import DatabaseUnavailable
from plugin.settings.sections import Settings

Connection = psycopg.Connection[Any]

_CONNECT_S = 10.0
_OF_THE_CLIENT: dict[str, str | int] = {
    "connect_timeout": 5,
    # Seconds: a silent server counts as gone after 5 + 3 x 5.
    **{"keepalives": 1, "keepalives_idle": 5, "keepalives_interval": 5, "keepalives_count": 3},
    "tcp_user_timeout": 20_000,  # ms, for what was sent and is not acknowledged; the system's default is 15 minutes
}
_OF_THE_SERVER: dict[str, int] = {
    # The same at the other end, whose default is two hours: until then a session keeps its locks.
    **{"tcp_keepalives_idle": 5, "tcp_keepalives_interval": 5, "tcp_keepalives_count": 3, "tcp_user_timeout": 20_000},
    # ms; for a process that stands still and whose system still answers for it. `purge` deletes files meanwhile.
    "idle_in_transaction_session_timeout": 120_000,
    # Not client_connection_check_interval: a server on Windows refuses sessions that ask for it.
}
RECONNECT_S = 10.0
"""How long a pool tries to open a connection by itself; its pauses double, and afterwards whoever needs one tries."""


@dataclass(frozen=True, slots=True)
class Database:
    """An open database and its connection pool."""

    url: str
    pool: ConnectionPool
    embedded: bool
    """Whether it is the embedded one, which only this node uses."""
    server: EmbeddedPostgres | None = None
    """The embedded server, in the process that started it; None elsewhere."""

    def ensure_running(self) -> None:
        """Restart the embedded server if it has ended, in the thread that started it. Raises DatabaseUnavailable."""
        if self.server is not None:
            self.server.ensure_running()


def database_url(settings: Settings) -> str:
    """Return the connection string of the database of these settings, whether it runs or not.

    Its sessions show the version of this program, and notice that the other end has vanished; options of this kind in
    `database.url` win over those that are added here. Raises DatabaseUnavailable.
    """
    url = settings.database.url or embedded_url(settings.data_dir)
    given = conninfo_to_dict(named_conninfo(url, software_version(), SCHEMA_VERSION))
    options = " ".join(f"-c {name}={value}" for name, value in _OF_THE_SERVER.items())
    options = f"{options} {given.pop('options', None) or ''}".strip()  # the last of two equal names wins
    merged: dict[str, Any] = {**_OF_THE_CLIENT, **given, "options": options}
    return make_conninfo(**merged)


@contextmanager
def running_database(settings: Settings) -> Iterator[Database]:
    """Open the database of these settings as it is; start the embedded server if the settings name no other.

    The embedded server stops when the block ends, or when the calling thread does. Its tables may be those of another
    version: `migrate` and `require_schema` are for the caller. Raises DatabaseUnavailable.
    """
    server = None if settings.database.url else start_postgres(settings.data_dir)
    try:
        with open_pool(database_url(settings)) as pool:
            yield Database(database_url(settings), pool, server is not None, server)
    finally:
        if server is not None:
            server.stop()


@contextmanager
def open_pool(url: str) -> Iterator[ConnectionPool]:
    """Open a connection pool to a running database. Raises DatabaseUnavailable."""
    pool = ConnectionPool(
        url,
        min_size=1,
        max_size=8,
        open=False,
        timeout=_CONNECT_S,
        check=ConnectionPool.check_connection,
        reconnect_timeout=RECONNECT_S,
    )
    try:
        try:
            pool.open(wait=True, timeout=_CONNECT_S)
        except (PoolTimeout, psycopg.Error) as exc:
            raise DatabaseUnavailable(
                "The database does not answer; check database.url, or whether `glionode serve` runs."
            ) from exc
        yield pool
    finally:
        pool.close()


def database_id(pool: ConnectionPool) -> str:
    """Return the unique id of this database, by which clients notice that it was replaced by another."""
    with pool.connection() as connection:
        row = connection.execute("SELECT id FROM glionode_identity").fetchone()
    assert row is not None, "the migration inserts it"
    return str(row[0])


def record_trouble(pool: ConnectionPool, place: str, message: str) -> None:
    """Store the latest problem of a place, for `status`. It replaces an earlier one."""
    with pool.connection() as connection:
        connection.execute(
            "INSERT INTO glionode_troubles (place, message) VALUES (%s, %s) "
            "ON CONFLICT (place) DO UPDATE SET message = excluded.message, at = now()",
            (place, message),
        )


def clear_trouble(pool: ConnectionPool, place: str) -> None:
    """Delete the problem of a place that works again."""
    with pool.connection() as connection:
        connection.execute("DELETE FROM glionode_troubles WHERE place = %s", (place,))
