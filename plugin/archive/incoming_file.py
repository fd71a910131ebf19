"""Write a file that is being received: bytes as they come, checked against the free space, removed unless kept."""

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE})
_CHECK_EVERY_BYTES = 1 << 24


class NoRoom(Exception):
    """The disk does not take another file: it is full, below its minimum of free space, or failing."""


class IncomingFile:
    """A file that is being received. The archive creates it, and gives it its final name once it is complete."""

    def __init__(self, path: Path, require_room: Callable[[], None]) -> None:
        """Create the file. `require_room` raises NoRoom; it is called now and as the file grows. Raises NoRoom."""
        self.path = path
        self._require_room = require_room
        self._unchecked_bytes = 0
        self._sha256 = hashlib.sha256()
        self.size_bytes = 0
        require_room()
        with disk_errors_as_no_room():
            self._file = path.open("x+b", buffering=0)  # the parts are whole PDUs

    def write(self, chunk: bytes | memoryview) -> None:
        """Append bytes. Raises NoRoom."""
        self._unchecked_bytes += len(chunk)
        if self._unchecked_bytes >= _CHECK_EVERY_BYTES:
            self._require_room()
            self._unchecked_bytes = 0
        with disk_errors_as_no_room():
            rest = memoryview(chunk)
            while rest:
                rest = rest[self._file.write(rest) :]
        self._sha256.update(chunk)
        self.size_bytes += len(chunk)

    @property
    def sha256(self) -> str:
        """The digest of what was written, hexadecimal: of the bytes as they came, not as the disk gives them back."""
        return self._sha256.hexdigest()

    def read_from(self, start: int) -> BinaryIO:
        """Return the content as a stream positioned at byte `start`. Do not write after this."""
        with disk_errors_as_no_room():
            self._file.seek(start)
        return self._file

    def sync(self) -> None:
        """Return when the whole content is on disk. Raises NoRoom."""
        with disk_errors_as_no_room():
            os.fsync(self._file.fileno())

    def discard(self) -> None:
        """Close the file and remove this name of it, not the names that it was linked to. May be called again."""
        if self._file.closed:
            return
        try:
            self._file.close()
        except OSError as exc:  # of a network file system, which writes at last what it took before
            if exc.errno not in _DISK_ERRORS:
                raise
        finally:
            self.path.unlink(missing_ok=True)


@contextmanager
def disk_errors_as_no_room() -> Iterator[None]:
    """Raise NoRoom in place of an OSError that says that the disk takes no more."""
    try:
        yield
    except OSError as exc:
        if exc.errno in _DISK_ERRORS:
            raise NoRoom(exc.strerror or "the disk does not take it") from exc
        raise
