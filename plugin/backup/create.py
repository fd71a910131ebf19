"""Make a backup of a node: its database as it was at one time, and every file that this database speaks of.

The rows come first and the files after them, so that no row lacks its file. An image that came meanwhile is kept, as it
was acknowledged, and becomes a job again; a result that was made meanwhile is left out, as its job is to be run again:
with the result and without its row, nobody could say whether it was sent. Nothing is purged in between.
"""

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from psycopg import IsolationLevel

from models.software_version import software_version
from pipeline.atomic_write import sync_folder
from plugin.backup.files import ALWAYS, IMAGES, IndexedFile, fits, index_file, list_files, sync_tree, write_index
from plugin.backup.manifest import FILES, BackupRefused, Manifest, write_manifest
from plugin.backup.tables import dump_tables
from plugin.database.other_versions import Connection
from plugin.database.pool import Database
from plugin.database.purge_lock import no_purge
from plugin.database.schema import read_schema

_LOG = logging.getLogger(__name__)

_OWED = ("queued", "failed", "held", "dead")
"""States of the outbox in which a file is still needed."""
_ROOM_BYTES = 16 << 20
"""For the list of files and the file system itself."""


@dataclass(frozen=True, slots=True)
class BackupMade:
    """What a backup contains."""

    folder: str
    schema: int
    jobs: int
    copied_files: int
    copied_bytes: int
    named_images: int
    """Images that the backup names without having them."""
    damaged: tuple[str, ...]
    """Results that wait to be sent and are missing, or do not fit their digest in the database: their paths."""


def needed_bytes(data_dir: Path, database: Database, with_images: bool) -> int:
    """Return an upper bound of the size of a backup."""
    with database.pool.connection() as connection:
        (tables,) = connection.execute("SELECT pg_database_size(current_database())").fetchone() or (0,)
    copied = (*ALWAYS, *IMAGES) if with_images else ALWAYS
    return _ROOM_BYTES + int(tables) + sum(_size(data_dir / path) for path in list_files(data_dir, copied))


def create_backup(data_dir: Path, database: Database, out: Path, with_images: bool) -> BackupMade:
    """Write a backup of a node, which may run, to the folder `out`, which must not exist yet. Both are absolute.

    Raises:
        BackupRefused: the place is not fit, or the copies cannot be written; nothing is left there then.
        DatabaseUnavailable: another backup is being made.
    """
    _refuse_place(data_dir, out)
    with psycopg.connect(database.url, autocommit=True) as guard, no_purge(guard):
        needed, free = needed_bytes(data_dir, database, with_images), shutil.disk_usage(out.parent).free
        if needed > free:
            raise BackupRefused(
                f"The backup needs {needed >> 20} MB, and {free >> 20} MB are free in {out.parent}; use another disk."
            )
        part = out.with_name(f".{out.name}.part")
        shutil.rmtree(part, ignore_errors=True)  # of a backup that was killed
        try:
            part.mkdir(mode=0o700)
            made = _write(data_dir, database, part, out, with_images)
            part.rename(out)
            sync_folder(out.parent)
        except OSError as exc:
            raise BackupRefused(
                f"The backup cannot be made in {out}: {exc.strerror or exc} ({exc.filename or out.parent}). Correct "
                "that or choose another place; nothing was left."
            ) from exc
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return made


def _write(data_dir: Path, database: Database, part: Path, out: Path, with_images: bool) -> BackupMade:
    made_at = datetime.now(UTC)
    with _snapshot(database.url) as connection:
        schema = read_schema(connection).version
        tables = dump_tables(connection, part)
        owed = _owed_results(connection, data_dir)
        known = _known_folders(connection, data_dir)
    files = _copy_files(data_dir, part / FILES, with_images, known)
    manifest = Manifest(
        software_version(),
        schema,
        made_at.isoformat(timespec="seconds"),
        str(data_dir),
        with_images,
        tables,
        files=len(files),
        file_bytes=sum(each.size for each in files.values()),
        index_sha256=write_index(part, files.values()),
    )
    write_manifest(part, manifest)
    sync_tree(part)
    copied = [each for each in files.values() if each.copied]
    for each in copied:
        if not fits(part / FILES / each.path, each):
            raise BackupRefused(f"The disk of {out} does not keep what is written to it ({each.path}); use another.")
    return BackupMade(
        str(out),
        schema,
        next((each.rows for each in tables if each.name == "glionode_jobs"), 0),
        len(copied),
        sum(each.size for each in copied),
        len(files) - len(copied),
        tuple(path for path, digest in owed if path not in files or digest not in ("", files[path].sha256)),
    )


def _copy_files(
    data_dir: Path, to: Path, with_images: bool, known_results: frozenset[str] | None
) -> dict[str, IndexedFile]:
    """Copy and list all files, of results those in known folders; twice, for those that were moved meanwhile."""
    found: dict[str, IndexedFile] = {}
    for _ in range(2):
        for folders, copied in ((ALWAYS, True), (IMAGES, with_images)):
            for path in list_files(data_dir, folders):
                folder = path.rpartition("/")[0]
                unknown = known_results is not None and folder not in known_results and path.startswith("results/")
                if unknown or path in found:
                    continue
                if (each := index_file(data_dir, path, to if copied else None)) is not None:
                    found[path] = each
    return found


def _owed_results(connection: Connection, data_dir: Path) -> list[tuple[str, str]]:
    """Return path, below the data folder, and digest ("" if unknown) of each result that a destination has yet to get.

    One that lies elsewhere, as on a host that only delivers, has its whole path, and no backup made here has it.
    """
    rows = connection.execute(
        "SELECT DISTINCT path, sha256 FROM glionode_outbox JOIN glionode_jobs ON key = job_key "
        "WHERE glionode_outbox.state = ANY(%s) AND purged_at IS NULL ORDER BY path",
        (list(_OWED),),
    ).fetchall()
    return [
        (Path(path).relative_to(data_dir).as_posix() if Path(path).is_relative_to(data_dir) else path, digest)
        for path, digest in rows
    ]


def _known_folders(connection: Connection, data_dir: Path) -> frozenset[str] | None:
    """Return the folders, below the data folder, of the results that rows speak of; None where some lie elsewhere."""
    rows = connection.execute(
        "SELECT results_path FROM glionode_jobs WHERE results_path IS NOT NULL UNION "
        "SELECT regexp_replace(path, '/[^/]*$', '') FROM glionode_outbox JOIN glionode_jobs ON key = job_key "
        "WHERE purged_at IS NULL"
    ).fetchall()
    folders = [Path(folder) for (folder,) in rows]
    if not all(folder.is_relative_to(data_dir) for folder in folders):
        return None  # the data folder had another name once
    return frozenset(folder.relative_to(data_dir).as_posix() for folder in folders)


@contextmanager
def _snapshot(url: str) -> Iterator[Connection]:
    """Give a transaction that sees the database as it is now until it ends, however long that takes."""
    with psycopg.connect(url) as connection:
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        connection.execute("SET LOCAL statement_timeout = 0")
        connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        yield connection


def _refuse_place(data_dir: Path, out: Path) -> None:
    if os.path.lexists(out):
        raise BackupRefused(f"{out} is there already; name a folder that is not.")
    if not out.parent.is_dir():
        raise BackupRefused(f"{out.parent} is no folder; create it first.")
    if out.resolve().is_relative_to(data_dir.resolve()):
        raise BackupRefused(
            f"{out} lies in the data folder {data_dir}, which a backup must outlive; choose another disk."
        )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
