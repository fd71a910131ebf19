"""Store the changes, metadata and properties of a hosted plugin in the node's database.

Identifiers are hashes; no text of a header is stored but what a plugin itself writes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg.sql import SQL, Identifier
from psycopg_pool import ConnectionPool

from plugin.database.audit_log import Peer
from plugin.database.pool import Connection
from plugin.orthanc_api.enums import InstanceOrigin
from plugin.orthanc_api.index import Reception

_TABLES = tuple(f"glionode_plugin_{what}" for what in ("changes", "metadata", "stable", "seen"))
_INITIALISED = -1
"""The number of the property that says that a plugin ran here before. Plugins may set those from 1024 on."""


@dataclass(frozen=True, slots=True)
class Change:
    """An entry of the change log."""

    seq: int
    change_type: int
    level: int
    resource: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Changes:
    """A part of the change log."""

    entries: tuple[Change, ...]
    last: int
    """The number of the last entry; of the whole log where there are no entries."""
    done: bool
    """Whether these are the last changes."""


class PluginStore:
    """The tables of the hosted plugin. Thread-safe."""

    def __init__(self, pool: ConnectionPool) -> None:
        self.pool = pool

    def log(self, changes: Iterable[tuple[int, int, str]]) -> None:
        """Log changes: type, level, resource."""
        with self.pool.connection() as connection:
            write_changes(connection, changes)

    def changes(self, since: int, limit: int) -> Changes:
        """Return up to `limit` changes (0: all) after the number `since`."""
        with self.pool.connection() as connection:
            rows = connection.execute(
                "SELECT seq, change_type, level, resource, at FROM glionode_plugin_changes WHERE seq > %s "
                "ORDER BY seq LIMIT %s",
                (since, limit + 1 if limit else None),
            ).fetchall()
            done = not limit or len(rows) <= limit
            entries = tuple(Change(*row) for row in (rows[:limit] if limit else rows))
            return Changes(entries, entries[-1].seq if entries else _last(connection), done)

    def last_change(self) -> Changes:
        """Return the latest change."""
        with self.pool.connection() as connection:
            rows = connection.execute(
                "SELECT seq, change_type, level, resource, at FROM glionode_plugin_changes ORDER BY seq DESC LIMIT 1"
            ).fetchall()
            return Changes(tuple(Change(*row) for row in rows), rows[0][0] if rows else _last(connection), True)

    def clear_changes(self) -> None:
        """Clear the change log. Which instances the plugin knows is kept."""
        with self.pool.connection() as connection:
            connection.execute("DELETE FROM glionode_plugin_changes")

    def receptions(self) -> dict[str, Reception]:
        """Return how each instance was received that was reported to the plugin, by its identifier."""
        with self.pool.connection() as connection:
            rows = connection.execute("SELECT resource, origin, ae_title, address FROM glionode_plugin_seen").fetchall()
            return {instance: Reception(origin, Peer(*sender)) for instance, origin, *sender in rows}

    def stable(self) -> frozenset[str]:
        """Return the resources that were reported to the plugin as stable and have not changed since."""
        with self.pool.connection() as connection:
            return frozenset(row[0] for row in connection.execute("SELECT resource FROM glionode_plugin_stable"))

    def record_instance(
        self, changes: Sequence[tuple[int, int, str]], instance: str, above: Sequence[str], reception: Reception
    ) -> None:
        """Log a new instance, record its reception, and clear the stable mark of its ancestors, in one transaction."""
        with self.pool.connection() as connection:
            write_changes(connection, changes)
            connection.execute(
                "INSERT INTO glionode_plugin_seen VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
                (instance, reception.origin, reception.sender.ae_title, reception.sender.address),
            )
            connection.execute("DELETE FROM glionode_plugin_stable WHERE resource = ANY(%s)", (list(above),))

    def record_stable(self, change: tuple[int, int, str]) -> None:
        """Log and record that a resource is stable, in one transaction."""
        with self.pool.connection() as connection:
            write_changes(connection, [change])
            connection.execute("INSERT INTO glionode_plugin_stable VALUES (%s) ON CONFLICT DO NOTHING", (change[2],))

    def delete(self, resources: Sequence[str]) -> None:
        """Delete all rows of these resources."""
        with self.pool.connection() as connection:
            for table in _TABLES:
                connection.execute(
                    SQL("DELETE FROM {} WHERE resource = ANY(%s)").format(Identifier(table)), (list(resources),)
                )

    def initialise(self, instances: Sequence[str], above: Sequence[str]) -> bool:
        """Record everything as known and stable when the node runs with a plugin for the first time.

        Return False, and do nothing, where it is not the first time.
        """
        with self.pool.connection() as connection:
            begun = connection.execute(
                "INSERT INTO glionode_plugin_properties VALUES (%s, '') ON CONFLICT DO NOTHING", (_INITIALISED,)
            ).rowcount
            if begun:
                with connection.cursor() as cursor:
                    cursor.executemany(
                        "INSERT INTO glionode_plugin_seen VALUES (%s, %s, '', '')",
                        [(each, InstanceOrigin.UNKNOWN) for each in instances],
                    )
                    cursor.executemany("INSERT INTO glionode_plugin_stable VALUES (%s)", [(each,) for each in above])
        return bool(begun)

    def delete_others(self, resources: Sequence[str]) -> None:
        """Delete the rows of all other resources, which were removed while no plugin ran."""
        with self.pool.connection() as connection:
            for table in _TABLES:
                connection.execute(
                    SQL("DELETE FROM {} WHERE NOT resource = ANY(%s)").format(Identifier(table)), (list(resources),)
                )

    def metadata(self, resource: str) -> dict[int, str]:
        """Return the plugin's own metadata of a resource, by number."""
        with self.pool.connection() as connection:
            return dict(
                connection.execute(
                    "SELECT number, value FROM glionode_plugin_metadata WHERE resource = %s ORDER BY number",
                    (resource,),
                ).fetchall()
            )

    def put_metadata(self, resource: str, number: int, value: str) -> None:
        """Set metadata of a resource."""
        with self.pool.connection() as connection:
            connection.execute(
                "INSERT INTO glionode_plugin_metadata VALUES (%s, %s, %s) "
                "ON CONFLICT (resource, number) DO UPDATE SET value = excluded.value",
                (resource, number, value),
            )

    def delete_metadata(self, resource: str, number: int) -> bool:
        """Delete metadata; return whether there was any."""
        with self.pool.connection() as connection:
            return bool(
                connection.execute(
                    "DELETE FROM glionode_plugin_metadata WHERE resource = %s AND number = %s", (resource, number)
                ).rowcount
            )

    def property(self, number: int) -> str | None:
        """Return a global property; None where it is not set."""
        with self.pool.connection() as connection:
            row = connection.execute(
                "SELECT value FROM glionode_plugin_properties WHERE number = %s", (number,)
            ).fetchone()
            return None if row is None else str(row[0])

    def set_property(self, number: int, value: str) -> None:
        """Set a global property."""
        with self.pool.connection() as connection:
            connection.execute(
                "INSERT INTO glionode_plugin_properties VALUES (%s, %s) "
                "ON CONFLICT (number) DO UPDATE SET value = excluded.value",
                (number, value),
            )


def write_changes(connection: Connection, changes: Iterable[tuple[int, int, str]]) -> None:
    """Log changes in the caller's transaction, which blocks other writers until its end.

    Otherwise a reader that asks for what follows a number could miss a smaller one that is committed later.
    """
    connection.execute("LOCK TABLE glionode_plugin_changes IN EXCLUSIVE MODE")
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO glionode_plugin_changes (change_type, level, resource) VALUES (%s, %s, %s)", list(changes)
        )


def _last(connection: Connection) -> int:
    """Return the number of the last change ever logged; the sequence continues after rows are deleted."""
    row = connection.execute(
        "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM glionode_plugin_changes_seq_seq"
    ).fetchone()
    return int(row[0]) if row else 0
