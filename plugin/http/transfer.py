"""The format of transfers between the archive and hosts without its disk: paths, digests, and results as tar files.

Both ends use these functions. Every name that becomes a path is checked here.
"""

import base64
import hashlib
import os
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from pipeline.atomic_write import sync_folder
from plugin.archive.store import is_uid, results_folder

CHUNK_BYTES = 1 << 18
NOT_FOUND = "The archive does not have it; it may have been purged."
"""The detail of a response with 404. Without it, the response is not the archive's, and says nothing of what it has."""
_JOB_KEY = re.compile(r"([0-9.]+)-[0-9a-f]{16}")
_FOLDER = re.compile(r"[0-9a-f]{16}(-[0-9a-f]{16})?")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\.(dcm|json)")
_DIGEST = re.compile(r"sha-256=:([A-Za-z0-9+/]{43}=):")
_MOST_FILES = 1000
MOST_BYTES = 4 << 30
"""Bytes of a result; one has tens of megabytes."""


class WrongTransfer(ValueError):
    """A transfer is incomplete, was changed on its way, or holds malformed names. The text, a clause, says why."""


def parse_job_key(job_key: str) -> str:
    """Return the study instance UID in a job's key. Raises WrongTransfer."""
    found = _JOB_KEY.fullmatch(job_key)
    if found is None or not is_uid(found[1]):
        raise WrongTransfer("the path does not name a job")
    return found[1]


def uploaded_folder_name(job_key: str, sha256: bytes) -> str:
    """Return the name of the folder of a result that was uploaded with this digest."""
    return f"{results_folder(Path(), parse_job_key(job_key), job_key).name}-{sha256.hex()[:16]}"


def parse_result_path(path: str) -> tuple[str, str, str]:
    """Return study, folder and file name of a path of a result file, on any host. Raises WrongTransfer."""
    parts = path.split("/")[-3:]
    if len(parts) != 3 or not (is_uid(parts[0]) and _FOLDER.fullmatch(parts[1]) and _FILE.fullmatch(parts[2])):
        raise WrongTransfer("the path does not name a file of a result")
    return parts[0], parts[1], parts[2]


def format_digest(sha256: bytes) -> str:
    """Return the value of a Repr-Digest header (RFC 9530) for a SHA-256."""
    return f"sha-256=:{base64.b64encode(sha256).decode('ascii')}:"


def parse_digest(header: str) -> bytes:
    """Return the SHA-256 in the value of a Repr-Digest header. Raises WrongTransfer."""
    found = _DIGEST.search(header)
    if found is None:
        raise WrongTransfer("it has no SHA-256 in a Repr-Digest header")
    return base64.b64decode(found[1])


def sha256_of(path: Path) -> bytes:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def pack(folder: Path, into: BinaryIO) -> None:
    """Write the files of a result folder as a tar. It has no times, so equal files make equal tars.

    Raises WrongTransfer.
    """
    with tarfile.open(fileobj=into, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(folder.iterdir()):
            if not path.is_file() or not _FILE.fullmatch(path.name):
                raise WrongTransfer(f"the result folder holds a {path.suffix or 'file'} that is not part of a result")
            member = tarfile.TarInfo(path.name)
            member.size = path.stat().st_size
            with path.open("rb") as file:
                tar.addfile(member, file)


def unpack(packed: BinaryIO, folder: Path) -> None:
    """Write the files of a tar of `pack` to a new folder and sync them. Raises WrongTransfer, OSError."""
    folder.mkdir(mode=0o700)
    try:
        with tarfile.open(fileobj=packed, mode="r:") as tar:
            members = tar.getmembers()
            _check(members)
            for member in members:
                content = tar.extractfile(member)
                assert content is not None, "it is a file"
                with (folder / member.name).open("xb") as file:
                    while chunk := content.read(CHUNK_BYTES):
                        file.write(chunk)
                    file.flush()
                    os.fsync(file.fileno())
    except (tarfile.TarError, FileExistsError) as exc:
        raise WrongTransfer(f"it is no tar of a result ({type(exc).__name__})") from exc
    sync_folder(folder)


def _check(members: Sequence[tarfile.TarInfo]) -> None:
    if not 0 < len(members) <= _MOST_FILES or sum(member.size for member in members) > MOST_BYTES:
        raise WrongTransfer("it holds no files, too many, or too large ones")
    for member in members:
        if not member.isreg() or member.issparse() or not _FILE.fullmatch(member.name):
            raise WrongTransfer("it holds a file name that no file of a result has")
