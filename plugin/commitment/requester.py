"""Request commitment from a destination to what it stored (PS3.4 annex J, as SCU), and take its report.

Objects are requested in batches, each in a transaction and on an association of its own. The association is kept open
for a while, as some peers report on it; most report on one that they open to the listener. Without a report, commitment
is requested again in a new transaction until the object is given up; a late report on an earlier one counts, too.
"""

import logging
import threading
import time
from contextlib import closing
from typing import Any

from pydicom.uid import generate_uid
from pynetdicom import Association, evt
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.service_class_n import StorageCommitmentServiceClass

from plugin.commitment import requester_rows
from plugin.commitment.report_receiver import CommitmentReportReceiver
from plugin.commitment.requester_rows import UncommittedObject
from plugin.database.pool import Connection
from plugin.delivery.destination_loop import run_exclusively
from plugin.dimse.association import EventHandler, Proposal, ProposedContext, open_association, peer_address
from plugin.dimse.commitment_messages import (
    PUSH_MODEL,
    PUSH_MODEL_INSTANCE,
    REQUEST,
    TRANSFER_SYNTAXES,
    CommitmentRequest,
    encode_request,
)
from plugin.dimse.pynetdicom_internals import replace_request_handler
from plugin.errors import PeerFailed
from plugin.logs import Outage
from plugin.settings.destinations import DestinationSettings
from plugin.settings.sections import DeliverySettings

_LOG = logging.getLogger(__name__)

_BATCH = 500
_POLL_EVERY_S = 0.5
_REPORT_WITHIN_S = 10.0
"""How long a peer has to report on the association of the request."""
_POLL_REPORT_EVERY_S = 0.1
_SUCCESS = 0x0000
_PROPOSAL = Proposal(tuple(ProposedContext(PUSH_MODEL, str(syntax)) for syntax in TRANSFER_SYNTAXES))


class CommitmentRequester:
    """Requests commitment from one destination, in a thread of its own, so that waiting delays no delivery."""

    def __init__(
        self, url: str, destination: DestinationSettings, calling_ae_title: str, settings: DeliverySettings
    ) -> None:
        """`url` is that of the database."""
        self._url = url
        self._destination = destination
        self._calling_ae_title = calling_ae_title
        self._settings = settings
        self._reports = CommitmentReportReceiver(url, settings)
        self._outage = Outage(_LOG, f"requesting storage commitment from {destination.name}")

    def run(self, stop: threading.Event) -> None:
        """Request commitment until `stop` is set. Failures are recorded in the outbox or logged, and retried."""
        run_exclusively(self._url, "commitment", self._destination.name, self._run_with, stop)

    def _run_with(self, connection: Connection, stop: threading.Event) -> None:
        name = self._destination.name
        while not stop.is_set():
            given_up = requester_rows.give_up_old(connection, name, self._settings.give_up_after_h)
            if given_up:
                _LOG.warning("gave up %d objects to which %s never committed", given_up, name)
            objects = requester_rows.find_due(connection, name, _BATCH)
            if objects:
                self._request(connection, objects, stop)
            else:
                stop.wait(_POLL_EVERY_S)

    def _request(self, connection: Connection, objects: tuple[UncommittedObject, ...], stop: threading.Event) -> None:
        name, timeout_s = self._destination.name, self._settings.timeout_s
        transaction = str(generate_uid(prefix=None))
        uids = [each.sop_instance_uid for each in objects]
        requester_rows.record_request(connection, name, transaction, uids, self._destination.commitment_timeout_s)
        handlers = [EventHandler(evt.EVT_N_EVENT_REPORT, self._reports.on_event_report)]
        try:
            address = peer_address(self._destination)
            with (
                open_association(address, self._calling_ae_title, _PROPOSAL, timeout_s, handlers) as association,
                closing(EventReportService(association)),
            ):
                _send_request(association, CommitmentRequest(transaction, tuple(each.reference for each in objects)))
                requester_rows.record_accepted(connection, name, uids)
                self._outage.works()
                _LOG.info("requested commitment to %d objects from %s, transaction %s", len(uids), name, transaction)
                self._wait_for_report(connection, association, transaction, stop)
        except PeerFailed as exc:
            requester_rows.record_failed_request(connection, name, objects, str(exc), self._settings)
            self._outage.failed(str(exc))

    def _wait_for_report(
        self,
        connection: Connection,
        association: Association,
        transaction: str,
        stop: threading.Event,
    ) -> None:
        """Return when the report was recorded, here or by the listener, or the peer's time is over."""
        deadline = time.monotonic() + _REPORT_WITHIN_S
        while association.is_established and time.monotonic() < deadline and not stop.is_set():
            if not requester_rows.awaits_report(connection, transaction):
                return
            stop.wait(_POLL_REPORT_EVERY_S)


def _send_request(association: Association, request: CommitmentRequest) -> None:
    """Send an N-ACTION and check its response. Raises PeerFailed."""
    try:
        response, _ = association.send_n_action(encode_request(request), REQUEST, PUSH_MODEL, PUSH_MODEL_INSTANCE)
    except (RuntimeError, ValueError) as exc:
        raise PeerFailed("the peer ended the association, or does not offer storage commitment") from exc
    status = getattr(response, "Status", None)
    if status is None:
        raise PeerFailed("the peer sent no N-ACTION response")
    if status != _SUCCESS:
        raise PeerFailed(f"the peer responded to N-ACTION with status 0x{status:04X}")


class EventReportService:
    """Serves N-EVENT-REPORT on an association that the node opened. Close it before the association is released.

    pynetdicom serves such a request in another thread and marks the association as paused meanwhile. `release` waits
    for that mark, possibly for ever, and a response after `release` breaks the association's state machine.
    """

    def __init__(self, association: Association) -> None:
        self._association = association
        self._lock = threading.Lock()
        self._is_closed = False
        replace_request_handler(association, self._serve)

    def close(self) -> None:
        """Wait for the response to a report that came, and take no more; the peer can open another association."""
        with self._lock:
            self._is_closed = True

    def _serve(self, message: Any, context_id: int) -> None:
        with self._lock:
            if not self._is_closed and isinstance(message, N_EVENT_REPORT) and message.is_valid_request:
                contexts = {each.context_id: each for each in self._association.accepted_contexts}
                StorageCommitmentServiceClass(self._association).SCP(message, contexts[context_id])
