"""A C-STORE's data set on its way to the disk, so that memory does not grow with an object.

The library's own way (pynetdicom's STORE_RECV_CHUNKED_DATASET) writes to the system's folder for temporary files, from
where nothing can be linked into the archive, forgets the file when the association breaks off, and dies of a full disk.
"""

from collections.abc import Callable
from io import BytesIO
from typing import BinaryIO

from plugin.archive.incoming_file import IncomingFile, NoRoom

BeginFile = Callable[[], IncomingFile]


class ReceivedDataSet:
    """Bytes that are written to a file as they come, with a head before them."""

    def __init__(self, begin: BeginFile, head: bytes) -> None:
        """`head` is what stands before the data set in the file: preamble and file meta information."""
        self._begin = begin
        self._head = head
        self.file: IncomingFile | None = None
        """Where the bytes are; None where there were none, or no room."""
        self.size_bytes = 0
        """Bytes that came, kept or not."""
        self.no_room: NoRoom | None = None
        """Why the bytes are not there; the rest of them is let pass, so that the sender gets its answer."""

    def write(self, chunk: bytes | memoryview) -> None:
        """Append bytes; does not raise where the disk is full."""
        self.size_bytes += len(chunk)
        if self.no_room is not None:
            return
        try:
            if self.file is None:
                self.file = self._begin()
                self.file.write(self._head)
            self.file.write(chunk)
        except NoRoom as exc:
            self.no_room = exc
            self.close()

    def encoded(self) -> BinaryIO:
        """The data set as it came, as a stream that stands at its beginning."""
        return self.file.read_from(len(self._head)) if self.file is not None else BytesIO()

    def close(self) -> None:
        """Remove what was not kept. Does no harm twice."""
        if self.file is not None:
            self.file.discard()
            self.file = None
