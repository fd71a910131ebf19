"""Storage Commitment as SCP (PS3.4 annex J): an N-ACTION is answered once the request is on disk."""

import logging
import threading
from typing import Any

from pynetdicom import evt

from plugin.archive.incoming_file import NoRoom
from plugin.archive.store import Archive
from plugin.commitment.open_associations import OpenAssociations
from plugin.commitment.pending_requests import AddResult, PendingRequests, request_name
from plugin.commitment.report_sender import CommitmentReportSender
from plugin.dimse.association import EventHandler
from plugin.dimse.commitment_messages import (
    PUSH_MODEL,
    PUSH_MODEL_INSTANCE,
    REQUEST,
    CommitmentRequest,
    InvalidCommitmentMessage,
    decode_request,
)
from plugin.settings.sections import Settings
from plugin.settings.values import is_ae_title

_LOG = logging.getLogger(__name__)

# Statuses of an N-ACTION response, PS3.7 10.1.4.1.10.
_SUCCESS = 0x0000
_NO_SUCH_INSTANCE = 0x0112
_INVALID_ARGUMENT = 0x0115
_NO_SUCH_CLASS = 0x0118
_NO_SUCH_ACTION = 0x0123
_RESOURCE_LIMITATION = 0x0213


class CommitmentProvider:
    """Takes requests in the listener's threads, and sends reports from a thread of its own."""

    def __init__(self, settings: Settings, archive: Archive) -> None:
        self._requests = PendingRequests(archive.data_dir)
        wake = threading.Event()
        self._open = OpenAssociations(wake)
        self._report_sender = CommitmentReportSender(settings, archive, self._requests, self._open, wake)
        self.handlers = (
            EventHandler(evt.EVT_N_ACTION, self._on_action),
            EventHandler(evt.EVT_DIMSE_SENT, self._open.on_sent),
            EventHandler(evt.EVT_DIMSE_RECV, self._open.on_received),
        )
        """The event handlers for the listener."""

    def run(self, stop: threading.Event) -> None:
        """Send reports until `stop` is set."""
        self._report_sender.run(stop)

    def _on_action(self, event: Any) -> tuple[int, None]:
        """Handle EVT_N_ACTION; return the status of the response, and no data set."""
        try:
            self._add(event, _read_request(event))
        except _Failure as exc:
            _LOG.warning("refused a storage commitment request with status 0x%04X: %s", exc.status, exc)
            return exc.status, None
        finally:
            if event.request.ActionInformation is not None:
                event.request.ActionInformation.close()
        return _SUCCESS, None

    def _add(self, event: Any, request: CommitmentRequest) -> None:
        """Add a request to the pending ones, with its association. Raises _Failure."""
        peer = event.assoc.requestor
        ae_title = peer.ae_title.strip() if is_ae_title(peer.ae_title) else ""
        try:
            with self._open.registering(event) as register:
                result = self._requests.add(ae_title, peer.address, request)
                if result is AddResult.PENDING:
                    register(request_name(ae_title, request.transaction_uid))
        except NoRoom as exc:
            raise _Failure(_RESOURCE_LIMITATION, f"no room on disk: {exc}") from exc
        if result is AddResult.TOO_MANY:
            raise _Failure(_RESOURCE_LIMITATION, "too many requests wait for their reports")
        if result is AddResult.CONFLICT:
            raise _Failure(_INVALID_ARGUMENT, "its transaction UID is in use for other instances")
        _LOG.info(
            "%s requested commitment to %d instances, transaction %s",
            ae_title,
            len(request.references),
            request.transaction_uid,
        )


class _Failure(Exception):
    """A request gets a response with a failure status."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def _read_request(event: Any) -> CommitmentRequest:
    """Read the request of an N-ACTION and check what it is about. Raises _Failure."""
    request = event.request
    if str(request.RequestedSOPClassUID) != PUSH_MODEL:
        raise _Failure(_NO_SUCH_CLASS, "its SOP class is not the Push Model")
    if str(request.RequestedSOPInstanceUID) != PUSH_MODEL_INSTANCE:
        raise _Failure(_NO_SUCH_INSTANCE, "its SOP instance is not the well-known one")
    if request.ActionTypeID != REQUEST:
        raise _Failure(_NO_SUCH_ACTION, f"its action type is not {REQUEST}")
    if request.ActionInformation is None:
        raise _Failure(_INVALID_ARGUMENT, "it has no Action Information")
    try:
        return decode_request(request.ActionInformation, str(event.context.transfer_syntax))
    except InvalidCommitmentMessage as exc:
        raise _Failure(_INVALID_ARGUMENT, str(exc)) from exc
