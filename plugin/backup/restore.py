"""Restore a backup into an empty data folder and an empty database: all of it, or a folder that no node starts on."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from plugin.archive.restore_mark import mark_restore, unmark_restore
from plugin.backup.files import IndexedFile, fits, index_file, read_index, sync_tree
from plugin.backup.manifest import FILES, TABLES, BackupRefused, Manifest, read_manifest, sha256_of
from plugin.backup.tables import dumped_columns, load_tables
from plugin.database.other_versions import Connection
from plugin.database.pool import database_url, open_pool, running_database
from plugin.database.schema import SCHEMA_VERSION, create_tables, read_schema
from plugin.node.lock import node_lock
from plugin.settings.sections import Settings

_NOT_OURS = ("lost+found",)
"""What an empty file system has."""
_CLUSTER_BYTES = 128 << 20
"""The files of a new embedded database."""


@dataclass(frozen=True, slots=True)
class CheckedBackup:
    """A backup of which every digest was found right."""

    folder: Path
    manifest: Manifest
    files: tuple[IndexedFile, ...]
    """Those that can be restored."""
    images: Path
    """The data folder with the images that the backup only names."""
    missing_images: int


def check_backup(folder: Path, images: Path | None = None, without_images: bool = False) -> CheckedBackup:
    """Check all that a backup has, and the images that it only names, in `images` or where they were.

    Raises BackupRefused: it is damaged, of a newer version, or images are missing and `without_images` is not set.
    """
    manifest = read_manifest(folder)
    if manifest.schema > SCHEMA_VERSION:
        raise BackupRefused(
            f"{folder} was made by glionode {manifest.program} with schema {manifest.schema}, and this version is for "
            f"schema {SCHEMA_VERSION}; restore it with that version or a newer one."
        )
    files = read_index(folder, manifest.index_sha256)
    _check_tables(folder, manifest)
    source = images or Path(manifest.data_dir)
    damaged = [each.path for each in files if each.copied and not fits(folder / FILES / each.path, each)]
    if damaged:
        raise BackupRefused(
            f"{len(damaged)} files of {folder} are missing or damaged, such as {damaged[0]}; use another backup. "
            "Nothing was changed."
        )
    missing = {each.path for each in files if not each.copied and not fits(source / each.path, each)}
    if missing and not without_images:
        raise BackupRefused(
            f"{folder} only names the images, and {len(missing)} of them are missing or differ in {source}, such as "
            f"{min(missing)}. Name a copy of the data folder that has them with --images, or restore the rest with "
            "--without-images and send them again. Nothing was changed."
        )
    return CheckedBackup(folder, manifest, tuple(f for f in files if f.path not in missing), source, len(missing))


def restore_backup(backup: CheckedBackup, settings: Settings) -> None:
    """Restore a backup into the data folder and the database of these settings, both empty.

    The tables get the schema that the backup has, so that the version that made it, too, may start on them. Open jobs
    wait in the queue anew. What is killed on its way leaves a folder that no node starts on.

    Raises:
        BackupRefused: folder or database are not empty, or too small; a file changed since it was checked.
        SettingsWrong, DatabaseUnavailable: a node runs on the folder; the database does not start or answer.
    """
    data_dir = settings.data_dir
    _refuse_filled(settings)
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with node_lock(data_dir):
        mark_restore(data_dir)
        try:
            _copy_files(backup, data_dir)
        except OSError as exc:
            raise BackupRefused(f"The files cannot be written to {data_dir}: {exc.strerror or exc}.") from exc
        with running_database(settings) as database, database.pool.connection() as connection:
            connection.execute("SET LOCAL statement_timeout = 0")
            _load(connection, backup, data_dir)
        unmark_restore(data_dir)


def _check_tables(folder: Path, manifest: Manifest) -> None:
    for table in manifest.tables:
        path = folder / TABLES / f"{table.name}.gz"
        if not path.is_file() or sha256_of(path) != table.sha256:
            raise BackupRefused(f"{path} is missing or damaged; use another backup. Nothing was changed.")


def _refuse_filled(settings: Settings) -> None:
    data_dir = settings.data_dir
    found = sorted(entry.name for entry in data_dir.iterdir()) if data_dir.is_dir() else []
    if left := [name for name in found if name not in _NOT_OURS]:
        raise BackupRefused(
            f"{data_dir} is not empty ({left[0]}); a backup is restored into an empty storage.data_dir. Name another "
            "one, or move what is there away."
        )
    if settings.database.url:
        with open_pool(database_url(settings)) as pool, pool.connection() as connection:
            if read_schema(connection).version or dumped_columns(connection, "glionode_jobs"):
                raise BackupRefused(
                    "The database of database.url has tables of glionode; a backup is restored into an empty one. "
                    "Create another with createdb and name it."
                )


def _copy_files(backup: CheckedBackup, data_dir: Path) -> None:
    needed, free = sum(each.size for each in backup.files) + _CLUSTER_BYTES, shutil.disk_usage(data_dir).free
    if needed > free:
        raise BackupRefused(f"The backup needs {needed >> 20} MB, and {free >> 20} MB are free in {data_dir}.")
    last: dict[Path, int] = {}
    for each in backup.files:
        copy = index_file(backup.folder / FILES if each.copied else backup.images, each.path, data_dir)
        if copy is None or copy.sha256 != each.sha256:
            raise BackupRefused(f"{each.path} changed while it was restored; empty {data_dir} and restore again.")
        folder = (data_dir / each.path).parent
        last[folder] = max(last.get(folder, 0), each.mtime_ns)
    for folder, mtime_ns in last.items():  # by it the archive knows when a series got its last image
        os.utime(folder, ns=(mtime_ns, mtime_ns))
    sync_tree(data_dir)


def _load(connection: Connection, backup: CheckedBackup, data_dir: Path) -> None:
    create_tables(connection, backup.manifest.schema)
    for table in backup.manifest.tables:
        if unknown := set(table.columns) - set(dumped_columns(connection, table.name)):
            raise BackupRefused(f"{backup.folder} has columns that {table.name} has not: {', '.join(sorted(unknown))}.")
    load_tables(connection, backup.folder, backup.manifest.tables)
    # Numbers in procrastinate's tables, which are new. Open jobs without an entry there are queued when a node starts.
    connection.execute("UPDATE glionode_jobs SET queue_id = NULL")
    connection.execute(
        "UPDATE glionode_jobs SET state = 'queued', attempts = greatest(attempts - 1, 0) WHERE state = 'running'"
    )
    old, new = backup.manifest.data_dir.rstrip("/"), str(data_dir)
    for name, column in (("glionode_jobs", "results_path"), ("glionode_outbox", "path")):
        connection.execute(
            f"UPDATE {name} SET {column} = %s || substr({column}, %s) WHERE starts_with({column}, %s)",
            (new, len(old) + 1, f"{old}/"),
        )
