"""Copy and verify the files of a data folder, and list them with their digests."""

import gzip
import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline.atomic_write import sync_folder
from plugin.backup.manifest import INDEX, BackupRefused, sha256_of

ALWAYS = ("results", "commitments", "models", "purging")
"""Folders of the data folder that a backup always has. What a crash left in `purging` is put back or removed later."""
IMAGES = ("archive",)
"""Folders with received images."""
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class IndexedFile:
    """A file of a data folder as the backup found it."""

    path: str
    """Below the data folder, with slashes."""
    sha256: str
    size: int
    mtime_ns: int
    copied: bool
    """Whether the backup has it; otherwise it is named only."""


def list_files(data_dir: Path, folders: Iterable[str]) -> Iterator[str]:
    """Return the paths, below `data_dir`, of the finished files in these folders. Links inside are not followed."""
    for name in folders:
        for root, inner, names in os.walk(data_dir / name):
            inner[:] = sorted(each for each in inner if not each.startswith("."))  # results that are being written
            for each in sorted(names):
                path = Path(root) / each
                if not each.startswith(".") and not each.endswith(".part") and path.is_file() and not path.is_symlink():
                    yield path.relative_to(data_dir).as_posix()


def index_file(data_dir: Path, path: str, to: Path | None) -> IndexedFile | None:
    """Digest a file and, with `to`, copy it below that folder, durably. None if it is gone. Raises OSError."""
    digest, size = hashlib.sha256(), 0
    try:
        source = (data_dir / path).open("rb")
    except FileNotFoundError:
        return None
    with source:
        mtime_ns = os.fstat(source.fileno()).st_mtime_ns
        if to is None:
            digest = hashlib.file_digest(source, "sha256")
            size = source.tell()
        else:
            target = to / path
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with target.open("wb") as copy:
                while chunk := source.read(_CHUNK):
                    digest.update(chunk)
                    copy.write(chunk)
                    size += len(chunk)
                copy.flush()
                os.fsync(copy.fileno())
            os.utime(target, ns=(mtime_ns, mtime_ns))
    return IndexedFile(path, digest.hexdigest(), size, mtime_ns, to is not None)


def write_index(folder: Path, files: Iterable[IndexedFile]) -> str:
    """Write the list of files and return its digest."""
    with (folder / INDEX).open("xb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) as out:
        for each in files:
            out.write(f"{each.sha256}\t{each.size}\t{each.mtime_ns}\t{int(each.copied)}\t{each.path}\n".encode())
    return sha256_of(folder / INDEX)


def read_index(folder: Path, sha256: str) -> tuple[IndexedFile, ...]:
    """Read the list of files. Raises BackupRefused where it is not the one that was written."""
    if not (folder / INDEX).is_file() or sha256_of(folder / INDEX) != sha256:
        raise BackupRefused(f"{folder / INDEX} is missing or damaged; use another backup. Nothing was changed.")
    found = []
    with gzip.open(folder / INDEX, "rt", encoding="utf-8") as file:
        for line in file:
            digest, size, mtime_ns, copied, path = line.rstrip("\n").split("\t")
            if not _lies_below(path):
                raise BackupRefused(
                    f"{folder / INDEX} names a file outside of a data folder; this is no backup of ours."
                )
            found.append(IndexedFile(path, digest, int(size), int(mtime_ns), copied == "1"))
    return tuple(found)


def fits(path: Path, expected: IndexedFile) -> bool:
    """Return whether a file has the content that the index says. Reads it from the disk where the system lets it."""
    try:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return hashlib.file_digest(file, "sha256").hexdigest() == expected.sha256
    except FileNotFoundError:
        return False


def sync_tree(folder: Path) -> None:
    """Write the entries of a folder and of all folders in it to disk."""
    for root, _, _ in os.walk(folder, topdown=False):
        sync_folder(Path(root))


def _lies_below(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return len(parts) > 1 and parts[0] in (*ALWAYS, *IMAGES) and ".." not in parts and "\0" not in path
