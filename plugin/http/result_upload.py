"""Receive the results of workers on other hosts: check and unpack them, then rename them into place as a whole.

    results/<study>/<hash of the job's key>-<hash of the content>/

The name depends on the content, so a result that is sent twice is kept once, and no existing result is replaced: two
workers may finish the same job, and files that the outbox names must not change while they are delivered. One that was
damaged is replaced.
"""

import hashlib
import shutil
import tempfile
import uuid
from pathlib import Path

from pipeline.atomic_write import make_folders, sync_folder
from plugin.archive.incoming_file import IncomingFile, disk_errors_as_no_room
from plugin.archive.store import EmbeddedArchive, results_root
from plugin.http.transfer import MOST_BYTES, WrongTransfer, pack, parse_job_key, unpack, uploaded_folder_name

_STAGING = ".results"


class ResultUpload:
    """A result that is being received. Call `discard` in the end, also after `finish`."""

    def __init__(self, archive: EmbeddedArchive, job_key: str) -> None:
        """Create a temporary file. Raises WrongTransfer for a malformed key, NoRoom."""
        self._study = parse_job_key(job_key)
        self._job_key = job_key
        self._data_dir = archive.data_dir
        self._incoming: IncomingFile = archive.create_file()
        self._sha256 = hashlib.sha256()
        self._bytes = 0

    def write(self, chunk: bytes) -> None:
        """Append bytes. Raises NoRoom, and WrongTransfer for more bytes than a result may have."""
        self._bytes += len(chunk)
        if self._bytes > MOST_BYTES:
            raise WrongTransfer("the upload is too large for a result")
        self._sha256.update(chunk)
        self._incoming.write(chunk)

    def finish(self, sha256: bytes) -> Path:
        """Store the result, durably when this returns, if it has this SHA-256, and return its folder.

        Raises WrongTransfer, NoRoom.
        """
        if self._sha256.digest() != sha256:
            raise WrongTransfer("the upload does not have the SHA-256 of its Repr-Digest")
        final = results_root(self._data_dir) / self._study / uploaded_folder_name(self._job_key, sha256)
        staging = self._incoming.path.with_name(f"{uuid.uuid4().hex}{_STAGING}")
        try:
            with disk_errors_as_no_room():
                if not _is_whole(final, sha256):
                    unpack(self._incoming.read_from(0), staging)
                    make_folders(final.parent, within=self._data_dir, mode=0o700)
                    _move(staging, final, sha256)
                # Also for a result that is there: the upload that moved it there first may not have synced yet.
                make_folders(final.parent, within=self._data_dir, mode=0o700)
                sync_folder(final.parent)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return final

    def discard(self) -> None:
        """Remove the temporary file. May be called again."""
        self._incoming.discard()


def remove_interrupted_uploads(data_dir: Path) -> None:
    """Remove what a crash left half unpacked. Call it at the start, before anything is received."""
    for folder in (data_dir / "incoming").glob(f"*{_STAGING}"):
        shutil.rmtree(folder)


def _move(staging: Path, final: Path, sha256: bytes) -> None:
    try:
        staging.rename(final)
    except OSError:
        if not final.is_dir():
            raise
        if _is_whole(final, sha256):  # another upload of the same result was quicker
            return
        damaged = staging.with_name(f"{uuid.uuid4().hex}{_STAGING}")
        final.rename(damaged)
        staging.rename(final)
        shutil.rmtree(damaged, ignore_errors=True)


def _is_whole(folder: Path, sha256: bytes) -> bool:
    """Return whether a folder is there and holds what was uploaded with this digest."""
    if not folder.is_dir():
        return False
    try:
        with tempfile.TemporaryFile() as packed:
            pack(folder, packed)
            packed.seek(0)
            return hashlib.file_digest(packed, "sha256").digest() == sha256
    except WrongTransfer:
        return False
