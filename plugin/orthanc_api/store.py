"""What plugins written for Orthanc keep: changes, metadata, properties. In the node's database; identifiers are hashes,
and no text of a header is in it but what a plugin itself puts there.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier
from psycopg_pool import ConnectionPool

from plugin.database.audit_log import Peer
from plugin.orthanc_api.enums import InstanceOrigin
from plugin.orthanc_api.index import Came

Connection = psycopg.Connection[Any]

_TABLES = tuple(f"glionode_plugin_{what}" for what in ("changes", "metadata", "stable", "seen"))
_BEGUN = -1
"""A property: a plugin has run here before. Plugins may set those from 1024 on."""


@dataclass(frozen=True, slots=True)
class Change:
    """An entry of the log of changes."""

    seq: int
    change_type: int
    level: int
    resource: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Changes:
    """A part of the log."""

    entries: tuple[Change, ...]
    last: int
    """Of the whole log where there are no entries."""
    done: bool
    """Whether nothing follows."""


class PluginStore:
    """The tables. Thread-safe."""

    def __init__(self, pool: ConnectionPool) -> None:
        self.pool = pool

    def log(self, changes: Iterable[tuple[int, int, str]]) -> None:
        """Add changes: type, level, resource."""
        with self.pool.connection() as connection:
            write_changes(connection, changes)

    def changes(self, since: int, limit: int) -> Changes:
        """So many changes after one; 0: all."""
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
        """The latest one."""
        with self.pool.connection() as connection:
            rows = connection.execute(
                "SELECT seq, change_type, level, resource, at FROM glionode_plugin_changes ORDER BY seq DESC LIMIT 1"
            ).fetchall()
            return Changes(tuple(Change(*row) for row in rows), rows[0][0] if rows else _last(connection), True)

    def clear_changes(self) -> None:
        """Forget the log. What is known as seen stays so."""
        with self.pool.connection() as connection:
            connection.execute("DELETE FROM glionode_plugin_changes")

    def seen(self) -> dict[str, Came]:
        """Instances that plugins were told of, and how they came."""
        with self.pool.connection() as connection:
            rows = connection.execute("SELECT resource, origin, ae_title, address FROM glionode_plugin_seen").fetchall()
            return {instance: Came(origin, Peer(*sender)) for instance, origin, *sender in rows}

    def stable(self) -> frozenset[str]:
        """Resources that plugins were told to be stable, and that have not changed since."""
        with self.pool.connection() as connection:
            return frozenset(row[0] for row in connection.execute("SELECT resource FROM glionode_plugin_stable"))

    def new_instance(
        self, changes: Sequence[tuple[int, int, str]], instance: str, above: Sequence[str], came: Came
    ) -> None:
        """An instance has come: log it, note how, and that what is above it is stable no more. One transaction."""
        with self.pool.connection() as connection:
            write_changes(connection, changes)
            connection.execute(
                "INSERT INTO glionode_plugin_seen VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
                (instance, came.origin, came.sender.ae_title, came.sender.address),
            )
            connection.execute("DELETE FROM glionode_plugin_stable WHERE resource = ANY(%s)", (list(above),))

    def now_stable(self, change: tuple[int, int, str]) -> None:
        """A resource is stable: log it, and note it. One transaction."""
        with self.pool.connection() as connection:
            write_changes(connection, [change])
            connection.execute("INSERT INTO glionode_plugin_stable VALUES (%s) ON CONFLICT DO NOTHING", (change[2],))

    def forget(self, resources: Sequence[str]) -> None:
        """Resources are gone, and with them all that was kept of them."""
        with self.pool.connection() as connection:
            for table in _TABLES:
                connection.execute(
                    SQL("DELETE FROM {} WHERE resource = ANY(%s)").format(Identifier(table)), (list(resources),)
                )

    def begin(self, instances: Sequence[str], above: Sequence[str]) -> bool:
        """What is there as the node runs with a plugin for the first time: known, stable, and told to nobody.

        Returns False where it is not the first time; then nothing is done.
        """
        with self.pool.connection() as connection:
            begun = connection.execute(
                "INSERT INTO glionode_plugin_properties VALUES (%s, '') ON CONFLICT DO NOTHING", (_BEGUN,)
            ).rowcount
            if begun:
                with connection.cursor() as cursor:
                    cursor.executemany(
                        "INSERT INTO glionode_plugin_seen VALUES (%s, %s, '', '')",
                        [(each, InstanceOrigin.UNKNOWN) for each in instances],
                    )
                    cursor.executemany("INSERT INTO glionode_plugin_stable VALUES (%s)", [(each,) for each in above])
        return bool(begun)

    def keep_only(self, resources: Sequence[str]) -> None:
        """Forget what was kept of all other resources: they went while no plugin ran."""
        with self.pool.connection() as connection:
            for table in _TABLES:
                connection.execute(
                    SQL("DELETE FROM {} WHERE NOT resource = ANY(%s)").format(Identifier(table)), (list(resources),)
                )

    def metadata(self, resource: str) -> dict[int, str]:
        """A plugin's own metadata of a resource, by number."""
        with self.pool.connection() as connection:
            return dict(
                connection.execute(
                    "SELECT number, value FROM glionode_plugin_metadata WHERE resource = %s ORDER BY number",
                    (resource,),
                ).fetchall()
            )

    def put_metadata(self, resource: str, number: int, value: str) -> None:
        """Keep metadata, in place of what was there."""
        with self.pool.connection() as connection:
            connection.execute(
                "INSERT INTO glionode_plugin_metadata VALUES (%s, %s, %s) "
                "ON CONFLICT (resource, number) DO UPDATE SET value = excluded.value",
                (resource, number, value),
            )

    def delete_metadata(self, resource: str, number: int) -> bool:
        """Remove metadata; whether there was any."""
        with self.pool.connection() as connection:
            return bool(
                connection.execute(
                    "DELETE FROM glionode_plugin_metadata WHERE resource = %s AND number = %s", (resource, number)
                ).rowcount
            )

    def property(self, number: int) -> str | None:
        """A global property."""
        with self.pool.connection() as connection:
            row = connection.execute(
                "SELECT value FROM glionode_plugin_properties WHERE number = %s", (number,)
            ).fetchone()
            return None if row is None else str(row[0])

    def set_property(self, number: int, value: str) -> None:
        """Keep a global property."""
        with self.pool.connection() as connection:
            connection.execute(
                "INSERT INTO glionode_plugin_properties VALUES (%s, %s) "
                "ON CONFLICT (number) DO UPDATE SET value = excluded.value",
                (number, value),
            )


def write_changes(connection: Connection, changes: Iterable[tuple[int, int, str]]) -> None:
    """Add changes in a transaction of the caller's, which keeps other writers waiting until its end.

    Otherwise whoever asks for what came after a number would miss a smaller one that is committed later.
    """
    connection.execute("LOCK TABLE glionode_plugin_changes IN EXCLUSIVE MODE")
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO glionode_plugin_changes (change_type, level, resource) VALUES (%s, %s, %s)", list(changes)
        )


def _last(connection: Connection) -> int:
    """The number of the last change that there ever was: the sequence goes on where rows are deleted."""
    row = connection.execute(
        "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM glionode_plugin_changes_seq_seq"
    ).fetchone()
    return int(row[0]) if row else 0
