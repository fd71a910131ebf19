"""Asking a destination to commit to what it stored (PS3.4 J, as SCU): N-ACTION, and an ear for its report.

What was sent is asked about in batches, each a transaction and an association of its own, which is kept open for a
while: some peers report on it. Most report on one that they open to the listener. Without a report it is asked for
again, in a new transaction, until the object is given up; a report on an earlier one counts as well.
"""

import logging
import threading
import time
from contextlib import closing
from typing import Any

import psycopg
from pydicom.uid import generate_uid
from pynetdicom import Association, evt
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.service_class_n import StorageCommitmentServiceClass

from plugin.commitment import requester_rows
from plugin.commitment.report_receiver import CommitmentReports
from plugin.commitment.requester_rows import Unasked
from plugin.delivery.destination_loop import run_in_turn
from plugin.dimse.association import Proposal, address_of, associated
from plugin.dimse.commitment_messages import (
    PUSH_MODEL,
    PUSH_MODEL_INSTANCE,
    REQUEST,
    TRANSFER_SYNTAXES,
    CommitmentRequest,
    encode_request,
)
from plugin.errors import PeerFailed
from plugin.settings.destinations import DestinationSettings
from plugin.settings.sections import DeliverySettings

_LOG = logging.getLogger(__name__)

_BATCH = 500
_LOOK_EVERY_S = 0.5
_LISTEN_S = 10.0
"""How long a peer may take to report on the association on which it was asked."""
_LOOK_FOR_REPORT_EVERY_S = 0.1
_SUCCESS = 0x0000
_PROPOSAL = Proposal(tuple((PUSH_MODEL, str(syntax)) for syntax in TRANSFER_SYNTAXES))


class CommitmentAsker:
    """Asks one destination, in a thread of its own, so that waiting for a report delays no delivery."""

    def __init__(
        self, url: str, destination: DestinationSettings, calling_ae_title: str, settings: DeliverySettings
    ) -> None:
        self._url = url
        self._destination = destination
        self._calling_ae_title = calling_ae_title
        self._settings = settings
        self._reports = CommitmentReports(url, settings)

    def run(self, stop: threading.Event) -> None:
        """Ask until `stop`. What goes wrong is recorded in the outbox or logged, and tried again."""
        run_in_turn(self._url, "commitment", self._destination.name, self._run_with, stop)

    def _run_with(self, connection: psycopg.Connection[Any], stop: threading.Event) -> None:
        name = self._destination.name
        while not stop.is_set():
            given_up = requester_rows.give_up_old(connection, name, self._settings.give_up_after_h)
            if given_up:
                _LOG.warning("%s never committed to %d objects; they are given up", name, given_up)
            unasked = requester_rows.due(connection, name, _BATCH)
            if unasked:
                self._ask(connection, unasked, stop)
            else:
                stop.wait(_LOOK_EVERY_S)

    def _ask(self, connection: psycopg.Connection[Any], unasked: tuple[Unasked, ...], stop: threading.Event) -> None:
        name = self._destination.name
        transaction = str(generate_uid(prefix=None))
        uids = [each.sop_instance_uid for each in unasked]
        requester_rows.begin(connection, name, transaction, uids, self._destination.commitment_timeout_s)
        handlers = [(evt.EVT_N_EVENT_REPORT, self._reports.handle)]
        try:
            address = address_of(self._destination)
            with (
                associated(
                    address, self._calling_ae_title, _PROPOSAL, self._settings.timeout_s, handlers
                ) as association,
                closing(ReportEar(association)),
            ):
                request = CommitmentRequest(transaction, tuple(each.reference for each in unasked))
                _request(association, request)
                requester_rows.record_asked(connection, name, uids)
                _LOG.info("asked %s to commit to %d objects, transaction %s", name, len(uids), transaction)
                self._listen(connection, association, transaction, stop)
        except PeerFailed as exc:
            requester_rows.record_not_asked(connection, name, unasked, str(exc), self._settings)
            _LOG.warning("could not ask %s to commit to %d objects: %s", name, len(uids), exc)

    def _listen(
        self,
        connection: psycopg.Connection[Any],
        association: Association,
        transaction: str,
        stop: threading.Event,
    ) -> None:
        """Return when the report has come, here or at the listener, or the peer has had its time."""
        deadline = time.monotonic() + _LISTEN_S
        while association.is_established and time.monotonic() < deadline and not stop.is_set():
            if not requester_rows.is_waiting(connection, transaction):
                return
            stop.wait(_LOOK_FOR_REPORT_EVERY_S)


def _request(association: Association, request: CommitmentRequest) -> None:
    """Send the N-ACTION and look at its answer. Raises PeerFailed."""
    try:
        answer, _ = association.send_n_action(encode_request(request), REQUEST, PUSH_MODEL, PUSH_MODEL_INSTANCE)
    except (RuntimeError, ValueError) as exc:
        raise PeerFailed("it ended the association, or knows no storage commitment") from exc
    status = getattr(answer, "Status", None)
    if status is None:
        raise PeerFailed("it did not answer an N-ACTION")
    if status != _SUCCESS:
        raise PeerFailed(f"it answers an N-ACTION with status 0x{status:04X}")


class ReportEar:
    """Takes reports on an association of ours, until it is closed; to be closed before the association is released.

    The library answers them in a thread of its own and marks the association as paused meanwhile. Its `release` waits
    for that mark, and could wait for ever; and an answer after it breaks the association's state machine.
    """

    def __init__(self, association: Association) -> None:
        self._association = association
        self._one_at_a_time = threading.Lock()
        self._is_closed = False
        association._serve_request = self._serve

    def close(self) -> None:
        """Let a report in hand be answered, and take no more: its sender opens another association."""
        with self._one_at_a_time:
            self._is_closed = True

    def _serve(self, message: Any, context_id: int) -> None:
        with self._one_at_a_time:
            if not self._is_closed and isinstance(message, N_EVENT_REPORT) and message.is_valid_request:
                context = self._association._accepted_cx[context_id]
                StorageCommitmentServiceClass(self._association).SCP(message, context)
