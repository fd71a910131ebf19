"""Write the data set of a C-STORE to disk as it comes, so that memory does not grow with the object.

pynetdicom's own way (STORE_RECV_CHUNKED_DATASET) writes to the system's folder for temporary files, from where nothing
can be linked into the archive, leaves the file behind when the association is aborted, and fails on a full disk.
"""

from collections.abc import Callable
from io import BytesIO
from typing import BinaryIO

from plugin.archive.incoming_file import IncomingFile, NoRoom

BeginFile = Callable[[], IncomingFile]
"""Creates a file in the archive's folder for incoming files. Raises NoRoom."""


class ReceivedDataSet:
    """A data set that is being received into a DICOM file."""

    def __init__(self, begin_file: BeginFile, head: bytes) -> None:
        """`head` goes before the data set: preamble and file meta information."""
        self._begin_file = begin_file
        self._head = head
        self.file: IncomingFile | None = None
        """The file; None before the first byte, and where there was no room."""
        self.size_bytes = 0
        """Bytes received, also where there was no room for them."""
        self.no_room: NoRoom | None = None
        """Why the bytes are not on disk. The rest of them is still read, so that the sender gets its response."""

    def write(self, chunk: bytes | memoryview) -> None:
        """Append bytes. A full disk sets `no_room`, and raises nothing."""
        self.size_bytes += len(chunk)
        if self.no_room is not None:
            return
        try:
            if self.file is None:
                self.file = self._begin_file()
                self.file.write(self._head)
            self.file.write(chunk)
        except NoRoom as exc:
            self.no_room = exc
            self.close()

    def encoded(self) -> BinaryIO:
        """Return the data set as it came, as a stream at its beginning."""
        return self.file.read_from(len(self._head)) if self.file is not None else BytesIO()

    def close(self) -> None:
        """Remove the file unless it was stored. May be called again."""
        if self.file is not None:
            self.file.discard()
            self.file = None
