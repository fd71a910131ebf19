"""Keep purging and backups apart: a purge removes files that the rows of a backup speak of."""

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import errors

from plugin.database.other_versions import Connection
from plugin.errors import DatabaseUnavailable

_LOCK = 0x676C6962  # "glib": shared by all purges, exclusive for a backup
_WAIT_S = 120


@contextmanager
def no_purge(connection: Connection) -> Iterator[None]:
    """Let nothing be purged during the block. `connection` commits by itself and serves nothing else meanwhile.

    Raises DatabaseUnavailable where another backup is being made.
    """
    connection.execute("SET idle_in_transaction_session_timeout = 0")
    connection.execute(f"SET lock_timeout = '{_WAIT_S}s'")
    try:
        connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
    except errors.LockNotAvailable as exc:
        raise DatabaseUnavailable("Another backup of this node is being made; wait until it has ended.") from exc
    try:
        yield
    finally:
        connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))


def may_purge(connection: Connection) -> bool:
    """Return whether no backup is being made, and keep one from beginning until the transaction ends."""
    return connection.execute("SELECT pg_try_advisory_xact_lock_shared(%s)", (_LOCK,)).fetchone() == (True,)
