"""Let pydicom read DICOM data of unknown origin within bounds.

pydicom trusts the lengths and counts in what it reads. A damaged or hostile object must not cost more than its reader
can afford, so every stream that pydicom parses for this project is guarded here.
"""

import io
import mmap
import struct
import zlib
from typing import Any, BinaryIO, cast

import pydicom

PARSER_FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RecursionError,  # sequences nested too deeply: pydicom reads those of undefined length recursively
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
    pydicom.errors.BytesLengthException,
    pydicom.errors.InvalidDicomError,
)
"""The exceptions that pydicom raises for damaged data."""

_INFLATE_CHUNK = 1 << 16
_WINDOW = 1 << 14


class TooCostly(ValueError):
    """Parsing the data would take more memory or time than its reader allows."""


class DeflatedDataSet(ValueError):
    """The data set is deflated; the stream stands at its first byte."""


def guard_stream(stream: BinaryIO | mmap.mmap, most_reads: int, most_bytes: int) -> BinaryIO:
    """Wrap a seekable stream for pydicom; reading raises TooCostly beyond `most_reads` calls or `most_bytes` bytes."""
    return cast(BinaryIO, _GuardedStream(stream, most_reads, most_bytes))


class _GuardedStream:
    """The part of a binary stream that pydicom uses, with a bound on what is read through it.

    It keeps a window of the stream: pydicom reads a few bytes at a time and asks for its position before each value,
    which takes system calls on a file.
    """

    def __init__(self, stream: BinaryIO | mmap.mmap, most_reads: int, most_bytes: int) -> None:
        self._stream: Any = stream
        self._reads_left = most_reads
        self._bytes_left = most_bytes
        self._place = self._window_start = stream.tell()
        self._window = b""
        stream.seek(0, io.SEEK_END)
        self._size = stream.tell()

    def tell(self) -> int:
        """Return the position in the stream."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position, or by an offset from the current one (`io.SEEK_CUR`)."""
        self._place = offset + (self._place if whence == io.SEEK_CUR else 0)
        return self._place

    def read(self, size: int | None = None) -> bytes:
        """Return up to `size` bytes. Raises TooCostly, and DeflatedDataSet where no size is given."""
        if size is None or size < 0:
            # pydicom reads all that is left for one purpose: to inflate it, to whatever size it grows.
            raise DeflatedDataSet("a deflated data set must be inflated by `inflate`")
        # A length may promise more than there is; a file object would allocate it. And pydicom searches the rest of
        # the stream for the end of each value of undefined length: many of them take quadratic time.
        first = self._place - self._window_start
        found = self._window[first : first + size] if first >= 0 else b""
        if len(found) < size:
            self._stream.seek(min(self._place, self._size))  # mmap refuses to seek beyond its end
            found = self._stream.read(min(max(size, _WINDOW), self._bytes_left + 1))
            self._window, self._window_start, found = found[:_WINDOW], self._place, found[:size]
        self._place += len(found)
        # Of each item, which may have 8 bytes, pydicom makes a Dataset of 700.
        self._reads_left -= 1
        self._bytes_left -= len(found)
        if self._reads_left < 0 or self._bytes_left < 0:
            raise TooCostly("more elements or bytes than a real header has")
        return found


def inflate(stream: BinaryIO, most_bytes: int) -> bytes:
    """Return the first `most_bytes` bytes of a deflated data set (PS3.5 A.5: raw deflate). Raises zlib.error."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = io.BytesIO()
    while (left := most_bytes - inflated.tell()) > 0 and (chunk := stream.read(_INFLATE_CHUNK)) and not inflater.eof:
        inflated.write(inflater.decompress(chunk, left))
    return inflated.getvalue()
