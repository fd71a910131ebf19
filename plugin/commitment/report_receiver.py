"""Receive reports on commitment that the node requested, and record them in the outbox.

A report comes on the association of its request or on one that the peer opens (PS3.4 J.3.3): to the listener then,
which may run in another process or on another host than the requester. They share the database. A transaction UID has
122 random bits, so only the peer that was asked can report on it.
"""

import logging
from typing import Any

import psycopg

from plugin.commitment.requester_rows import apply_report
from plugin.database.audit_log import Peer
from plugin.dimse.commitment_messages import (
    ALL_COMMITTED,
    PUSH_MODEL_INSTANCE,
    SOME_FAILED,
    InvalidCommitmentMessage,
    decode_report,
)
from plugin.settings.sections import DeliverySettings
from plugin.settings.values import is_ae_title

_LOG = logging.getLogger(__name__)

_CONNECT_S = 10

# Statuses of an N-EVENT-REPORT response, PS3.7 10.1.1.1.8.
_SUCCESS = 0x0000
_PROCESSING_FAILURE = 0x0110
_NO_SUCH_INSTANCE = 0x0112
_NO_SUCH_EVENT_TYPE = 0x0113
_INVALID_ARGUMENT = 0x0115


class CommitmentReportReceiver:
    """Handles the N-EVENT-REPORT requests of destinations. Thread-safe."""

    def __init__(self, url: str, settings: DeliverySettings) -> None:
        self._url = url
        self._settings = settings

    def on_event_report(self, event: Any) -> tuple[int, None]:
        """Handle EVT_N_EVENT_REPORT; return the status of the response, and no data set.

        Where the database does not answer, the status is a failure, and the peer may report again; if it does not, the
        node requests commitment again.
        """
        try:
            status = self._record(event)
        finally:
            if event.request.EventInformation is not None:
                event.request.EventInformation.close()
        if status != _SUCCESS:
            _LOG.warning("refused a storage commitment report with status 0x%04X", status)
        return status, None

    def _record(self, event: Any) -> int:
        request = event.request
        if str(request.AffectedSOPInstanceUID) != PUSH_MODEL_INSTANCE:
            return _NO_SUCH_INSTANCE
        if request.EventTypeID not in (ALL_COMMITTED, SOME_FAILED):
            return _NO_SUCH_EVENT_TYPE
        if request.EventInformation is None:
            return _INVALID_ARGUMENT
        try:
            report = decode_report(request.EventInformation, str(event.context.transfer_syntax))
        except InvalidCommitmentMessage:
            return _INVALID_ARGUMENT
        try:
            with psycopg.connect(self._url, connect_timeout=_CONNECT_S) as connection:
                committed, failed = apply_report(connection, report, _sender(event), self._settings)
        except psycopg.Error as exc:
            _LOG.error("could not record a storage commitment report in the database (%s)", type(exc).__name__)
            return _PROCESSING_FAILURE
        _LOG.info("transaction %s: %d objects are committed, %d are not", report.transaction_uid, committed, failed)
        return _SUCCESS


def _sender(event: Any) -> Peer:
    association = event.assoc
    peer = association.acceptor if association.is_requestor else association.requestor
    return Peer(peer.ae_title if is_ae_title(peer.ae_title) else "", peer.address or "")
