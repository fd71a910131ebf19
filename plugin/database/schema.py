"""Read the schema of the database, and apply the migrations that it lacks.

Procrastinate's tables are created beside ours, from its own SQL, and migrated by the migrations that it ships.

    glionode_schema                  the versions up to 15 and, later, those that older programs must not use
    glionode_schema_migrations       every version that was applied, when, by which version of glionode
    glionode_schema_procrastinate    procrastinate's migrations that were applied

Version 0.1.0 knows the first table only, and refuses a database whose highest version there is above 15. As long as
migrations only add, it may use a migrated database, which is the way back from an upgrade.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources

from procrastinate.schema import SchemaManager
from psycopg import errors
from psycopg_pool import ConnectionPool

from models.software_version import software_version
from plugin.database.migrations import BREAKING, FIRST_RELEASED, MIGRATIONS, PROCRASTINATE_OF_FIRST_RELEASED
from plugin.database.other_versions import Connection, older_processes
from plugin.errors import DatabaseUnavailable

_LOG = logging.getLogger(__name__)

_MIGRATION_LOCK = 0x676C696F  # "glio": advisory lock, so that two nodes do not migrate at the same time

SCHEMA_VERSION = max(MIGRATIONS)
_OTHERS_END_WITHIN_S = 30.0
"""Longer than it takes until the last heartbeat of a killed worker counts as old."""
_LOCKED_TABLE_S = 30


@dataclass(frozen=True, slots=True)
class SchemaState:
    """What the database says about its schema."""

    version: int
    """The highest version that was applied; 0 where there are no tables of glionode."""
    oldest_program: int
    """The lowest SCHEMA_VERSION of a program that may use the database: the highest version in `glionode_schema`."""


def read_schema(connection: Connection) -> SchemaState:
    """Return the state of the schema."""
    first, later = connection.execute(
        "SELECT to_regclass('glionode_schema')::text, to_regclass('glionode_schema_migrations')::text"
    ).fetchone() or (None, None)
    if first is None:
        return SchemaState(0, 0)
    (oldest,) = connection.execute("SELECT coalesce(max(version), 0) FROM glionode_schema").fetchone() or (0,)
    if later is None:
        return SchemaState(oldest, oldest)
    (last,) = connection.execute("SELECT coalesce(max(version), 0) FROM glionode_schema_migrations").fetchone() or (0,)
    return SchemaState(max(oldest, last), oldest)


def is_current(connection: Connection) -> bool:
    """Return whether the database needs no migration."""
    return read_schema(connection).version >= SCHEMA_VERSION and not _missing_of_procrastinate(connection)


def require_schema(pool: ConnectionPool, alone: bool = True) -> None:
    """Return where this version may read and change the database as it is.

    Without `alone`, no process of an older version may use it, as a process that serves asks. Raises
    DatabaseUnavailable.
    """
    with pool.connection() as connection:
        connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", (_MIGRATION_LOCK,))
        state = read_schema(connection)
        others = () if alone else older_processes(connection, SCHEMA_VERSION, workers=False)
    if state.version < SCHEMA_VERSION or state.oldest_program > SCHEMA_VERSION:
        raise DatabaseUnavailable(describe_mismatch(state))
    if others:
        raise DatabaseUnavailable(_describe_others(state, others))


@contextmanager
def usable_schema(pool: ConnectionPool) -> Iterator[None]:
    """Let the block read and change a database; see `require_schema`."""
    require_schema(pool)
    yield


@contextmanager
def readable_schema(pool: ConnectionPool) -> Iterator[str]:
    """Let the block read a database of an older version, too, as far as it has what the block needs.

    Give the sentence that says so where it is one, else an empty one. Raises DatabaseUnavailable where it has not what
    the block needs, and for a newer schema that this version must not use.
    """
    with pool.connection() as connection:
        state = read_schema(connection)
    if state.version == 0 or state.oldest_program > SCHEMA_VERSION:
        raise DatabaseUnavailable(describe_mismatch(state))
    try:
        yield describe_mismatch(state) if state.version < SCHEMA_VERSION else ""
    except (errors.UndefinedColumn, errors.UndefinedTable, errors.UndefinedFunction) as exc:
        if state.version >= SCHEMA_VERSION:
            raise
        raise DatabaseUnavailable(describe_mismatch(state)) from exc


def describe_mismatch(state: SchemaState) -> str:
    """Return the sentence for a database with the schema of another version."""
    if state.version == 0:
        return (
            "The database has no tables of glionode yet; `glionode serve` and `glionode listen` create them. Start one "
            "of them first."
        )
    have = f"The database has schema {state.version}, and this is glionode {software_version()} for schema"
    if state.version < SCHEMA_VERSION:
        return (
            f"{have} {SCHEMA_VERSION}. To upgrade, stop the older version on all hosts and start `glionode serve` or "
            "`glionode listen` of this one; else use the version that runs."
        )
    return f"{have} {SCHEMA_VERSION}. A newer glionode made it; use that version, or restore a backup from before."


def _describe_others(state: SchemaState, others: tuple[str, ...]) -> str:
    return (
        f"The database (schema {state.version}) is still used by {'; '.join(others)}, and this is glionode "
        f"{software_version()} for schema {SCHEMA_VERSION}. Stop the older version on all hosts, then start this one. "
        "A session of a host that is gone ends with SELECT pg_terminate_backend(its id)."
    )


def migrate(pool: ConnectionPool, alone: bool = False) -> None:
    """Create procrastinate's tables and ours, or bring them up to date. Safe to run in several processes at once.

    Only the process that owns the database calls this: `glionode serve` or `listen`. It waits for processes of older
    versions that still use the database; with `alone`, there are none, as the caller holds the lock of the node.

    Raises:
        DatabaseUnavailable: a newer version of glionode created the tables, or an older one still runs.
    """
    deadline = time.monotonic() + _OTHERS_END_WITHIN_S
    while True:
        with pool.connection() as connection:
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_MIGRATION_LOCK,))
            state = read_schema(connection)
            if state.oldest_program > SCHEMA_VERSION:
                raise DatabaseUnavailable(describe_mismatch(state))
            current = is_current(connection)
            # An older version may have gone back to a database that was migrated; it knows nothing of our leases.
            others = () if alone or not state.version else older_processes(connection, SCHEMA_VERSION, not current)
            if not others:
                if not current:
                    _apply(connection, state)
                return
        if time.monotonic() > deadline:
            raise DatabaseUnavailable(_describe_others(state, others))
        _LOG.warning("waiting for older versions to let go of the database: %s", "; ".join(others))
        time.sleep(1.0)


def create_tables(connection: Connection, version: int) -> None:
    """Create the tables of a schema version in an empty database, within the caller's transaction."""
    _migrate_procrastinate(connection)
    _migrate_ours(connection, 0, version)


def _apply(connection: Connection, state: SchemaState) -> None:
    connection.execute("SET LOCAL statement_timeout = 0")  # an index of a large table takes its time
    connection.execute(f"SET LOCAL lock_timeout = '{_LOCKED_TABLE_S}s'")
    try:
        _migrate_procrastinate(connection)
        _migrate_ours(connection, state.version, SCHEMA_VERSION)
    except errors.LockNotAvailable as exc:
        raise DatabaseUnavailable(
            f"The database cannot be brought from schema {state.version} to {SCHEMA_VERSION}: another session has "
            f"locked a table for more than {_LOCKED_TABLE_S} s. End it (pg_stat_activity lists sessions), then start "
            "this again; nothing was changed."
        ) from exc


def _migrate_ours(connection: Connection, version: int, target: int) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS glionode_schema (version integer NOT NULL)")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS glionode_schema_migrations (version integer PRIMARY KEY, "
        "program text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
    )
    for number in range(version + 1, target + 1):
        connection.execute(MIGRATIONS[number])  # type: ignore[call-overload, unused-ignore]
        if number <= FIRST_RELEASED or number in BREAKING:
            connection.execute("INSERT INTO glionode_schema VALUES (%s)", (number,))
        connection.execute(
            "INSERT INTO glionode_schema_migrations (version, program) VALUES (%s, %s)", (number, software_version())
        )
        _LOG.info("migrated the database to schema version %d", number)


def _migrate_procrastinate(connection: Connection) -> None:
    """Create procrastinate's tables, or apply those of its migrations that are missing, and note which there are."""
    if connection.execute("SELECT to_regclass('procrastinate_jobs')").fetchone() == (None,):
        connection.execute(SchemaManager.get_schema())
        missing: tuple[str, ...] = ()
    else:
        missing = _missing_of_procrastinate(connection)
    for name in missing:
        text = (_procrastinate_migrations() / name).read_text(encoding="utf-8")
        connection.execute(text)  # type: ignore[call-overload, unused-ignore]
        _LOG.info("migrated the tables of procrastinate: %s", name)
    connection.execute(
        "CREATE TABLE IF NOT EXISTS glionode_schema_procrastinate "
        "(name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
    )
    connection.execute(
        "INSERT INTO glionode_schema_procrastinate (name) SELECT unnest(%s::text[]) ON CONFLICT DO NOTHING",
        (list(_names_of_procrastinate()),),
    )


def _missing_of_procrastinate(connection: Connection) -> tuple[str, ...]:
    """Return the names of procrastinate's migrations that the database lacks, in their order."""
    names = _names_of_procrastinate()
    if connection.execute("SELECT to_regclass('glionode_schema_procrastinate')").fetchone() == (None,):
        return tuple(name for name in names if name > PROCRASTINATE_OF_FIRST_RELEASED)
    rows = connection.execute("SELECT name FROM glionode_schema_procrastinate").fetchall()
    return tuple(name for name in names if (name,) not in rows)


def _names_of_procrastinate() -> tuple[str, ...]:
    # The names begin with the version and a number, and sort in the order in which they are applied.
    return tuple(sorted(each.name for each in _procrastinate_migrations().iterdir() if each.name.endswith(".sql")))


def _procrastinate_migrations() -> resources.abc.Traversable:
    return resources.files("procrastinate.sql") / "migrations"
