"""Dump the tables of glionode as PostgreSQL's COPY writes them, and load them into tables that are empty.

Left out: the tables of the schema, which migrations make; leases of running processes; how far each study is indexed,
which a node finds anew on another disk; the id of the database, because clients notice by it that what they handed
over since the backup is gone; and procrastinate's, as open jobs without an entry are queued anew.
"""

import gzip
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

from psycopg import sql

from plugin.backup.manifest import TABLES, DumpedTable, sha256_of
from plugin.database.pool import Connection

_CHUNK = 1 << 20
_DUMPED = "relkind = 'r' AND relname ~ '^glionode_' AND relname !~ '^glionode_(schema|identity|leases|archive_studies)'"


def dump_tables(connection: Connection, folder: Path) -> tuple[DumpedTable, ...]:
    """Write each table of the transaction's snapshot to `folder`, those first that others refer to."""
    (folder / TABLES).mkdir(mode=0o700)
    return tuple(_dump(connection, name, folder / TABLES / f"{name}.gz") for name in _names(connection))


def load_tables(connection: Connection, folder: Path, tables: tuple[DumpedTable, ...]) -> None:
    """Load dumped tables, in the order in which they were dumped, within the caller's transaction."""
    for table in tables:
        columns = sql.SQL(", ").join(map(sql.Identifier, table.columns))
        name = sql.Identifier(table.name)
        with (
            gzip.open(folder / TABLES / f"{table.name}.gz") as file,
            connection.cursor().copy(sql.SQL("COPY {} ({}) FROM STDIN").format(name, columns)) as copy,
        ):
            while chunk := file.read(_CHUNK):
                copy.write(chunk)
        for column, last in table.sequences.items():
            connection.execute("SELECT setval(pg_get_serial_sequence(%s, %s), %s)", (table.name, column, last))


def dumped_columns(connection: Connection, name: str) -> tuple[str, ...]:
    """Return the columns of a table of glionode; none where there is no such table."""
    rows = connection.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped "
        "AND attgenerated = '' ORDER BY attnum",
        (name,),
    ).fetchall()
    return tuple(column for (column,) in rows)


def _names(connection: Connection) -> Iterator[str]:
    """Return the names of the tables, each after those that its foreign keys refer to."""
    found = connection.execute(
        f"SELECT relname FROM pg_class WHERE {_DUMPED} AND relnamespace = current_schema()::regnamespace ORDER BY 1"
    ).fetchall()
    references = connection.execute(
        "SELECT conrelid::regclass::text, confrelid::regclass::text FROM pg_constraint WHERE contype = 'f'"
    ).fetchall()
    names = {name for (name,) in found}
    graph = {name: {to for source, to in references if source == name and to != name} & names for name in sorted(names)}
    return iter(tuple(TopologicalSorter(graph).static_order()))


def _dump(connection: Connection, name: str, path: Path) -> DumpedTable:
    columns = dumped_columns(connection, name)
    statement = sql.SQL("COPY {} ({}) TO STDOUT").format(
        sql.Identifier(name), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    cursor = connection.cursor()
    # Without a time in the file, so that equal rows give equal bytes.
    with path.open("xb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) as file, cursor.copy(statement) as copy:
        for chunk in copy:
            file.write(chunk)
    return DumpedTable(name, columns, cursor.rowcount, sha256_of(path), _sequences(connection, name, columns))


def _sequences(connection: Connection, name: str, columns: tuple[str, ...]) -> dict[str, int]:
    found = {}
    for column in columns:
        (sequence,) = connection.execute("SELECT pg_get_serial_sequence(%s, %s)", (name, column)).fetchone() or (None,)
        if sequence is not None:
            last = connection.execute(
                "SELECT last_value FROM pg_sequences WHERE format('%%I.%%I', schemaname, sequencename) = %s",
                (sequence,),
            ).fetchone()
            if last is not None and last[0] is not None:
                found[column] = int(last[0])
    return found
