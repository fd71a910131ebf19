"""A minimal PACS that receives objects and stores each in a file as it arrived."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from typing import Any

from pydicom.uid import AllTransferSyntaxes
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import Verification

AE_TITLE = "DEMOPACS"


@contextmanager
def receiving_pacs(folder: Path) -> Iterator[tuple[int, "Queue[Path]"]]:
    """Run a storage SCP on a free port of the loopback interface for the duration of the block.

    Yields the port, and a queue that receives the path of each object once it is on disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    arrived: Queue[Path] = Queue()

    def store(event: Any) -> int:
        path = folder / f"{event.request.AffectedSOPInstanceUID}.dcm"
        path.write_bytes(event.encoded_dataset())
        arrived.put(path)
        return 0x0000

    entity = AE(AE_TITLE)
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(context.abstract_syntax, AllTransferSyntaxes)
    entity.add_supported_context(Verification)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    try:
        yield server.server_address[1], arrived
    finally:
        server.shutdown()
