"""Results that workers on other hosts send: checked, unpacked beside their place, and then there, whole or not at all.

    results/<study>/<hash of the job's key>-<hash of the content>/

The name follows from the content, so that one sent twice is kept once, and nothing that is there is ever replaced: two
workers may come to an end with one job, and what the outbox names must not change under a deliverer.
"""

import hashlib
import shutil
import uuid
from pathlib import Path

from pipeline.atomic_write import sync_folder
from plugin.archive.incoming_file import IncomingFile, full_disk_is_no_room
from plugin.archive.store import EmbeddedArchive, results_folder
from plugin.http.transfer import MOST_BYTES, WrongTransfer, study_of_job, unpack

_STAGING = ".results"


class ResultUpload:
    """A result on its way here. Discard it in the end, whatever came of it."""

    def __init__(self, archive: EmbeddedArchive, job_key: str) -> None:
        """Raises WrongTransfer for a key that is none, NoRoom."""
        self._study = study_of_job(job_key)
        self._job_key = job_key
        self._data_dir = archive.data_dir
        self._incoming: IncomingFile = archive.begin()
        self._sha256 = hashlib.sha256()
        self._bytes = 0

    def write(self, chunk: bytes) -> None:
        """Append bytes. Raises NoRoom, and WrongTransfer for more than a result has."""
        self._bytes += len(chunk)
        if self._bytes > MOST_BYTES:
            raise WrongTransfer("it is too large for a result")
        self._sha256.update(chunk)
        self._incoming.write(chunk)

    def finish(self, sha256: bytes) -> Path:
        """Keep it, durably when this returns, if it has this SHA-256; gives the folder of the result.

        Raises WrongTransfer, NoRoom.
        """
        if self._sha256.digest() != sha256:
            raise WrongTransfer("it was torn or changed on its way")
        plain = results_folder(self._data_dir, self._study, self._job_key)
        final = plain.with_name(f"{plain.name}-{sha256.hex()[:16]}")
        if final.is_dir():
            return final
        staging = self._incoming.path.with_name(f"{uuid.uuid4().hex}{_STAGING}")
        try:
            with full_disk_is_no_room():
                unpack(self._incoming.read_from(0), staging)
                final.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                sync_folder(final.parent.parent)
                _move(staging, final)
                sync_folder(final.parent)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return final

    def discard(self) -> None:
        """Remove what was received and is of no more use."""
        self._incoming.discard()


def remove_torn_uploads(data_dir: Path) -> None:
    """What a crash left half unpacked. For the start, before anything is received."""
    for leftover in (data_dir / "incoming").glob(f"*{_STAGING}"):
        shutil.rmtree(leftover)


def _move(staging: Path, final: Path) -> None:
    try:
        staging.rename(final)
    except OSError:
        if not final.is_dir():  # another upload of the same was quicker
            raise
