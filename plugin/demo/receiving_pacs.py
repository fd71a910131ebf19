"""A small PACS that only receives: for the demonstration and for trials. Stores each object as it came."""

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
    """A storage SCP on a free port of loopback for as long as the block runs.

    Gives the port, and a queue in which the path of each object appears once it is on disk.
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
