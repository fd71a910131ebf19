"""Copies of what could not be read as DICOM, for a person to look at. Bounded; named by a hash, never by its text."""

import hashlib
import logging
import os
import threading
from pathlib import Path

from plugin.archive.incoming_file import IncomingFile

_LOG = logging.getLogger(__name__)

_NAME_DIGITS = 32


class Quarantine:
    """A folder that keeps the latest unreadable files, at most so many and so large."""

    def __init__(self, folder: Path, most_files: int, most_bytes: int) -> None:
        self._folder = folder
        self._most_files = most_files
        self._most_bytes = most_bytes
        self._one_at_a_time = threading.Lock()

    def keep(self, incoming: IncomingFile) -> str | None:
        """Keep a file and let the oldest go for it; returns its name, None where it is not kept.

        A file that is sent again and again is kept once. Trouble with the disk is logged only: the sender's answer does
        not depend on a copy for us.
        """
        try:
            content = incoming.read_from(0)
            digest = hashlib.file_digest(content, "sha256")  # type: ignore[arg-type, unused-ignore]
            if self._most_files == 0 or content.tell() > self._most_bytes:
                return None
            name = f"{digest.hexdigest()[:_NAME_DIGITS]}.dcm"
            with self._one_at_a_time:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                if not (self._folder / name).exists():
                    os.link(incoming.path, self._folder / name)
                    self._let_oldest_go()
        except OSError as exc:
            _LOG.warning("what does not parse could not be kept (%s)", exc.strerror)
            return None
        return name

    def _let_oldest_go(self) -> None:
        kept = sorted(
            ((path.stat().st_mtime_ns, path.stat().st_size, path) for path in _files(self._folder)), reverse=True
        )
        total_bytes = 0
        for count, (_, size, path) in enumerate(kept, start=1):
            total_bytes += size
            if count > self._most_files or total_bytes > self._most_bytes:
                path.unlink(missing_ok=True)


def quarantine_folder(data_dir: Path) -> Path:
    """Where unreadable files lie."""
    return data_dir / "quarantine"


def count_quarantined(data_dir: Path) -> int:
    """How many unreadable files lie there."""
    return len(_files(quarantine_folder(data_dir)))


def _files(folder: Path) -> list[Path]:
    return list(folder.glob("*.dcm"))
