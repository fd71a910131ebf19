"""The DICOM listener: C-ECHO, C-STORE of every storage class in what the pipeline reads, and Storage Commitment.

Instances are stored exactly as they came.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from pynetdicom import AE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined, unused-ignore]

from plugin.archive.quarantine import Quarantine, quarantine_folder
from plugin.archive.store import Archive
from plugin.dimse.association import EventHandler
from plugin.dimse.commitment_messages import PUSH_MODEL, TRANSFER_SYNTAXES
from plugin.dimse.pynetdicom_internals import accept_every_storage_class, register_server
from plugin.listener.c_store_handler import StoreEvents, StoreHandler
from plugin.listener.pdu_reader import PduLimits
from plugin.listener.refusals import RefusalCounter
from plugin.listener.repeated_instance import RepeatedInstances
from plugin.listener.server import POLL_S, AssociationServer, ServerResources
from plugin.settings.sections import ListenerSettings
from plugin.settings.tls_reload import current_server_context

_PDU_BYTES = 131072
_UNLIMITED_ASSOCIATIONS = 1 << 20
"""pynetdicom's own limit counts connections as associations; access_control.py has ours."""


@dataclass(frozen=True, slots=True)
class Address:
    """The AE title, host and port of the listener."""

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
    def is_running(self) -> bool:
        """Whether it accepts connections."""
        return self._thread.is_alive()

    def stop(self, drain_s: float) -> None:
        """Accept no more associations, wait up to `drain_s` seconds for the running ones, and abort those left."""
        self._server.shutdown()
        self._server.connections.end_all(drain_s)


def start_listener(
    settings: ListenerSettings,
    archive: Archive,
    events: StoreEvents,
    commitment: Sequence[EventHandler] = (),
) -> Listener:
    """Listen in threads of its own until `Listener.stop`.

    `commitment` are the event handlers of Storage Commitment; without any, its SOP class is not accepted.
    Raises OSError where the port is taken, SettingsWrong where a certificate cannot be used.
    """
    accept_every_storage_class()
    ae = AE(ae_title=settings.ae_title)
    ae.add_supported_context(Verification)
    if commitment:  # requested by senders, and reported on by destinations, which associate in the role of its SCP
        ae.add_supported_context(PUSH_MODEL, list(TRANSFER_SYNTAXES), scu_role=True, scp_role=True)
    ae.maximum_associations = _UNLIMITED_ASSOCIATIONS
    ae.maximum_pdu_size = _PDU_BYTES
    ae.acse_timeout = settings.negotiation_timeout_s
    ae.network_timeout = settings.idle_timeout_s
    quarantine = Quarantine(
        quarantine_folder(archive.data_dir), settings.quarantine_files, settings.quarantine_mb << 20
    )
    repeated = RepeatedInstances(archive, settings.corrected_patients)
    handler = StoreHandler(archive, quarantine, frozenset(settings.urgent_ae_titles), repeated, events)
    resources = ServerResources(
        settings,
        PduLimits(_PDU_BYTES, settings.negotiation_timeout_s, settings.idle_timeout_s),
        RefusalCounter(archive.data_dir),
        archive.create_file,
        handler.handle,
        events.on_refused,
        current_server_context(settings, "listener", settings.tls_client_ca),
    )
    server = ae.make_server(
        (settings.host, settings.port),
        evt_handlers=list(commitment),
        server_class=AssociationServer,
        resources=resources,
    )
    register_server(server)
    thread = threading.Thread(target=server.serve_forever, args=(POLL_S,), name="listener", daemon=True)
    thread.start()
    host, port = server.server_address[:2]
    return Listener(server, Address(settings.ae_title, str(host), int(port)), thread)
