"""A file on its way into the archive: written as it comes, gone unless it is kept. Knows bytes and disks; no DICOM."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE})
_LOOK_EVERY_BYTES = 1 << 24


class NoRoom(Exception):
    """The disk does not take another instance: full, below its floor, or failing."""


class IncomingFile:
    """A file that is being received; made by the archive, which alone gives it a final name."""

    def __init__(self, path: Path, require_room: Callable[[], None]) -> None:
        """Make the file. `require_room` raises NoRoom; it is asked again as the file grows. Raises NoRoom."""
        self.path = path
        self._require_room = require_room
        self._unlooked_bytes = 0
        require_room()
        with full_disk_is_no_room():
            self._file = path.open("x+b")

    def write(self, chunk: bytes | memoryview) -> None:
        """Append bytes. Raises NoRoom."""
        self._unlooked_bytes += len(chunk)
        if self._unlooked_bytes >= _LOOK_EVERY_BYTES:
            self._require_room()
            self._unlooked_bytes = 0
        with full_disk_is_no_room():
            self._file.write(chunk)

    def read_from(self, start: int) -> BinaryIO:
        """What was written, as a stream that stands at byte `start`; nothing may be written after this."""
        with full_disk_is_no_room():
            self._file.seek(start)
        return self._file

    def sync(self) -> None:
        """Return when the disk has all of it. Raises NoRoom."""
        with full_disk_is_no_room():
            self._file.flush()
            os.fsync(self._file.fileno())

    def discard(self) -> None:
        """Close the file and take its name away; a file that was linked elsewhere stays there. Does no harm twice."""
        try:
            self._file.close()
        except OSError as exc:  # what a full disk did not take is flushed once more here
            if exc.errno not in _NO_ROOM:
                raise
        finally:
            self.path.unlink(missing_ok=True)


@contextmanager
def full_disk_is_no_room() -> Iterator[None]:
    """Raise NoRoom for an OSError which says that the disk takes no more."""
    try:
        yield
    except OSError as exc:
        if exc.errno in _NO_ROOM:
            raise NoRoom(exc.strerror or "the disk does not take it") from exc
        raise
