"""Keep copies of received data sets that do not parse, for a person to examine: bounded, and named by their hash."""

import hashlib
import logging
import os
import threading
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from plugin.archive.incoming_file import IncomingFile

_LOG = logging.getLogger(__name__)

_NAME_DIGITS = 32


class Quarantine:
    """A folder with the latest files that do not parse, bounded in number and in bytes."""

    def __init__(self, folder: Path, most_files: int, most_bytes: int) -> None:
        self._folder = folder
        self._most_files = most_files
        self._most_bytes = most_bytes
        self._lock = threading.Lock()

    def keep(self, incoming: IncomingFile) -> str | None:
        """Keep a copy, remove the oldest ones beyond the bounds, and return its name; None where it is not kept.

        A file that is sent again and again is kept once. Errors of the disk are only logged: the sender's response does
        not depend on this copy.
        """
        try:
            content = incoming.read_from(0)
            digest = hashlib.file_digest(content, "sha256")  # type: ignore[arg-type, unused-ignore]
            if self._most_files == 0 or content.tell() > self._most_bytes:
                return None
            name = f"{digest.hexdigest()[:_NAME_DIGITS]}.dcm"
            with self._lock:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                if not (self._folder / name).exists():
                    os.link(incoming.path, self._folder / name)
                    self._remove_oldest()
        except OSError as exc:
            _LOG.warning("no copy of a data set that does not parse was kept (%s)", exc.strerror)
            return None
        return name

    def _remove_oldest(self) -> None:
        kept = sorted(
            ((path.stat().st_mtime_ns, path.stat().st_size, path) for path in _files(self._folder)), reverse=True
        )
        total_bytes = 0
        for count, (_, size, path) in enumerate(kept, start=1):
            total_bytes += size
            if count > self._most_files or total_bytes > self._most_bytes:
                path.unlink(missing_ok=True)


def quarantine_folder(data_dir: Path) -> Path:
    """Return the folder of the data sets that do not parse."""
    return data_dir / "quarantine"


def count_quarantined(data_dir: Path, since: datetime | None = None) -> int:
    """Return how many data sets that do not parse are kept; with `since` those that came after it."""
    files = _files(quarantine_folder(data_dir))
    if since is None:
        return len(files)
    times = []
    for path in files:
        with suppress(FileNotFoundError):  # the oldest are removed as others come
            times.append(path.stat().st_mtime)
    return sum(1 for time in times if time > since.timestamp())


def _files(folder: Path) -> list[Path]:
    return list(folder.glob("*.dcm"))
