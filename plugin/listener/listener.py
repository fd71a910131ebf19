"""The DICOM listener: C-ECHO and C-STORE of every storage class in every transfer syntax, kept exactly as it came, and
Storage Commitment where its handlers are given.

Knows the archive and nothing of jobs.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pynetdicom import AE, _config
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined, unused-ignore]

from plugin.archive.quarantine import Quarantine, quarantine_folder
from plugin.archive.store import Archive
from plugin.dimse.commitment_messages import PUSH_MODEL, TRANSFER_SYNTAXES
from plugin.listener.c_store_handler import OnAnswer, OnStored, StoreHandler
from plugin.listener.pdu_reader import PduLimits
from plugin.listener.refusals import Refusals
from plugin.listener.server import POLL_S, AssociationServer, Reception
from plugin.settings.sections import ListenerSettings
from plugin.settings.tls import server_context

_PDU_BYTES = 131072
_COUNTED_ELSEWHERE = 1 << 20
"""The library's own limit, which counts connections and associations as one; who_may_speak.py has ours."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the listener listens."""

    ae_title: str
    host: str
    port: int


class Listener:
    """The running listener; made by `start_listener`."""

    def __init__(self, server: AssociationServer, address: Address, thread: threading.Thread) -> None:
        self._server = server
        self._thread = thread
        self.address = address

    @property
    def runs(self) -> bool:
        """Whether it takes connections."""
        return self._thread.is_alive()

    def stop(self, drain_s: float) -> None:
        """Take no more associations, let running ones end for `drain_s` seconds, then abort them."""
        self._server.shutdown()
        deadline = time.monotonic() + drain_s
        for association in self._server.active_associations:
            association.join(max(0.0, deadline - time.monotonic()))
        for association in self._server.active_associations:
            association.abort()


def start_listener(
    settings: ListenerSettings,
    archive: Archive,
    on_stored: OnStored,
    on_answer: OnAnswer = lambda _status, _size: None,
    commitment: Sequence[tuple[Any, ...]] = (),
) -> Listener:
    """Listen in threads of its own until `stop`.

    `commitment` are pynetdicom's event handlers of Storage Commitment; without any, it is not spoken here.
    Raises OSError where the port is taken, SettingsWrong where a certificate is unusable.
    """
    # Every storage class means also private and future ones: without this, pynetdicom refuses what it does not know.
    # The switch is the library's only one, for the whole process.
    _config.UNRESTRICTED_STORAGE_SERVICE = True
    ae = AE(ae_title=settings.ae_title)
    ae.add_supported_context(Verification)
    if commitment:  # asked by senders, and reported on by destinations, which open an association as its provider
        ae.add_supported_context(PUSH_MODEL, list(TRANSFER_SYNTAXES), scu_role=True, scp_role=True)
    ae.maximum_associations = _COUNTED_ELSEWHERE
    ae.maximum_pdu_size = _PDU_BYTES
    ae.acse_timeout = settings.negotiation_timeout_s
    ae.network_timeout = settings.idle_timeout_s
    quarantine = Quarantine(
        quarantine_folder(archive.data_dir), settings.quarantine_files, settings.quarantine_mb << 20
    )
    handler = StoreHandler(archive, quarantine, frozenset(settings.urgent_ae_titles), on_stored, on_answer)
    reception = Reception(
        settings,
        PduLimits(_PDU_BYTES, settings.negotiation_timeout_s, settings.idle_timeout_s),
        Refusals(archive.data_dir),
        archive.begin,
        handler.answer,
        server_context(settings, "listener", settings.tls_client_ca),
    )
    server = ae.make_server(
        (settings.host, settings.port),
        evt_handlers=list(commitment),
        server_class=AssociationServer,
        reception=reception,
    )
    ae._servers.append(server)  # its shutdown takes it from there
    thread = threading.Thread(target=server.serve_forever, args=(POLL_S,), name="listener", daemon=True)
    thread.start()
    host, port = server.server_address[:2]
    return Listener(server, Address(settings.ae_title, str(host), int(port)), thread)
