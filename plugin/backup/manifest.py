"""The files of a backup, and `backup.json`, which says what is in them.

backup.json           versions, counts and digests; written last
database/<table>.gz   the rows of a table, as PostgreSQL's COPY writes them
files.gz              a line for each file below the data folder: SHA-256, size, time, whether it is here, path
files/<path>          copies of these files: results, requests for commitment, models; images with `--with-images`
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.atomic_write import write_file
from pipeline.errors import GlionodeError

MANIFEST, TABLES, INDEX, FILES = "backup.json", "database", "files.gz", "files"
_FORMAT = 1


class BackupRefused(GlionodeError):
    """A backup cannot be made there, or is not one that can be restored here."""


@dataclass(frozen=True, slots=True)
class DumpedTable:
    """The rows of a table in a backup."""

    name: str
    columns: tuple[str, ...]
    rows: int
    sha256: str
    sequences: dict[str, int]
    """The last value of the sequence of each column that has one."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup contains."""

    program: str
    """The version of glionode that made it."""
    schema: int
    made_at: str
    """ISO 8601 with offset: the time of the database that it has."""
    data_dir: str
    with_images: bool
    tables: tuple[DumpedTable, ...]
    files: int
    file_bytes: int
    index_sha256: str


def sha256_of(path: Path) -> str:
    """Return the digest of a file, in hexadecimal. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `backup.json`, durably."""
    write_file(folder / MANIFEST, json.dumps({"format": _FORMAT, **asdict(manifest)}, indent=1))


def read_manifest(folder: Path) -> Manifest:
    """Read `backup.json`. Raises BackupRefused."""
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if found.pop("format") != _FORMAT:
            raise BackupRefused(f"{folder} is a backup in a form that this version does not know; use a newer one.")
        tables = tuple(DumpedTable(**{**each, "columns": tuple(each["columns"])}) for each in found.pop("tables"))
        return Manifest(tables=tables, **found)
    except FileNotFoundError as exc:
        raise BackupRefused(f"{folder} has no {MANIFEST}, so it is no backup, or not a whole one.") from exc
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise BackupRefused(f"{folder / MANIFEST} cannot be read ({type(exc).__name__}); use another backup.") from exc
