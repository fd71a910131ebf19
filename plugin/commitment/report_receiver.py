"""Reports on commitment that the node asked for: taken where they arrive, written down in the outbox, answered.

They come on the association on which was asked or on one that the peer opens (PS3.4 J.3.3): to the listener then, which
may be another process on another host than the one that asked. What they share is the database. A transaction UID is a
random one of 122 bits, so only who was asked can report on it.
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
    NotUnderstood,
    decode_report,
)
from plugin.settings.sections import DeliverySettings
from plugin.settings.values import is_ae_title

_LOG = logging.getLogger(__name__)

_CONNECT_S = 10

# Statuses of an N-EVENT-REPORT answer, PS3.7 10.1.1.1.8.
_SUCCESS = 0x0000
_PROCESSING_FAILURE = 0x0110
_NO_SUCH_INSTANCE = 0x0112
_NO_SUCH_EVENT_TYPE = 0x0113
_INVALID_ARGUMENT = 0x0115


class CommitmentReports:
    """Takes reports; thread-safe."""

    def __init__(self, url: str, settings: DeliverySettings) -> None:
        self._url = url
        self._settings = settings

    def handle(self, event: Any) -> tuple[int, None]:
        """The handler of pynetdicom's EVT_N_EVENT_REPORT: the status to answer with.

        Where the database is away the peer is told so and may report again; if it does not, the node asks again.
        """
        request = event.request
        try:
            status = self._take(event)
        finally:
            if request.EventInformation is not None:
                request.EventInformation.close()
        if status != _SUCCESS:
            _LOG.warning("refused a report on storage commitment with status 0x%04X", status)
        return status, None

    def _take(self, event: Any) -> int:
        request = event.request
        if str(request.AffectedSOPInstanceUID) != PUSH_MODEL_INSTANCE:
            return _NO_SUCH_INSTANCE
        if request.EventTypeID not in (ALL_COMMITTED, SOME_FAILED):
            return _NO_SUCH_EVENT_TYPE
        if request.EventInformation is None:
            return _INVALID_ARGUMENT
        try:
            report = decode_report(request.EventInformation, str(event.context.transfer_syntax))
        except NotUnderstood:
            return _INVALID_ARGUMENT
        try:
            with psycopg.connect(self._url, connect_timeout=_CONNECT_S) as connection:
                committed, failed = apply_report(connection, report, _reporter(event), self._settings)
        except psycopg.Error as exc:
            _LOG.error("a report on storage commitment was not written (%s)", type(exc).__name__)
            return _PROCESSING_FAILURE
        _LOG.info("transaction %s: %d objects committed, %d not", report.transaction_uid, committed, failed)
        return _SUCCESS


def _reporter(event: Any) -> Peer:
    association = event.assoc
    peer = association.acceptor if association.is_requestor else association.requestor
    return Peer(peer.ae_title if is_ae_title(peer.ae_title) else "", peer.address or "")
