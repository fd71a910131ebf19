"""Storage Commitment for senders (PS3.4 J, as SCP): N-ACTION is answered once the request is on disk."""

import logging
import threading
from typing import Any

from pynetdicom import evt

from plugin.archive.incoming_file import NoRoom
from plugin.archive.store import Archive
from plugin.commitment.open_associations import OpenAssociations
from plugin.commitment.pending_requests import CommitmentRequests, Kept
from plugin.commitment.report_sender import CommitmentReporter
from plugin.dimse.commitment_messages import (
    PUSH_MODEL,
    PUSH_MODEL_INSTANCE,
    REQUEST,
    CommitmentRequest,
    NotUnderstood,
    decode_request,
)
from plugin.settings.sections import Settings
from plugin.settings.values import is_ae_title

_LOG = logging.getLogger(__name__)

# Statuses of an N-ACTION answer, PS3.7 10.1.4.1.10.
_SUCCESS = 0x0000
_NO_SUCH_INSTANCE = 0x0112
_INVALID_ARGUMENT = 0x0115
_NO_SUCH_CLASS = 0x0118
_NO_SUCH_ACTION = 0x0123
_RESOURCE_LIMITATION = 0x0213


class CommitmentService:
    """Takes requests in the listener's threads, and reports in a thread of its own."""

    def __init__(self, settings: Settings, archive: Archive) -> None:
        self._requests = CommitmentRequests(archive.data_dir)
        wake = threading.Event()
        self._open = OpenAssociations(wake)
        self._reporter = CommitmentReporter(settings, archive, self._requests, self._open, wake)
        self.handlers: tuple[tuple[Any, ...], ...] = (
            (evt.EVT_N_ACTION, self._handle),
            (evt.EVT_DIMSE_SENT, self._open.on_sent),
            (evt.EVT_DIMSE_RECV, self._open.on_received),
        )
        """For the listener."""

    def run(self, stop: threading.Event) -> None:
        """Report until `stop`."""
        self._reporter.run(stop)

    def _handle(self, event: Any) -> tuple[int, None]:
        """The handler of pynetdicom's EVT_N_ACTION: the status to answer with."""
        try:
            self._keep(event, _read(event))
        except _Refused as exc:
            _LOG.warning("refused a request for storage commitment with status 0x%04X: %s", exc.status, exc)
            return exc.status, None
        finally:
            if event.request.ActionInformation is not None:
                event.request.ActionInformation.close()
        return _SUCCESS, None

    def _keep(self, event: Any, wanted: CommitmentRequest) -> None:
        """Raises _Refused."""
        peer = event.assoc.requestor
        ae_title = peer.ae_title.strip() if is_ae_title(peer.ae_title) else ""
        try:
            with self._open.being_expected(event) as expect:
                kept, name = self._requests.keep(ae_title, peer.address, wanted)
                if kept is Kept.KEPT:
                    expect(name)
        except NoRoom as exc:
            raise _Refused(_RESOURCE_LIMITATION, f"no room: {exc}") from exc
        if kept is Kept.TOO_MANY:
            raise _Refused(_RESOURCE_LIMITATION, "too many wait for their reports")
        if kept is Kept.DIFFERENT:
            raise _Refused(_INVALID_ARGUMENT, "its transaction UID stands for other instances")
        _LOG.info(
            "transaction %s of %s asks about %d instances", wanted.transaction_uid, ae_title, len(wanted.references)
        )


class _Refused(Exception):
    """A request is answered with another status than success."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def _read(event: Any) -> CommitmentRequest:
    """Raises _Refused."""
    request = event.request
    if str(request.RequestedSOPClassUID) != PUSH_MODEL:
        raise _Refused(_NO_SUCH_CLASS, "it is about another SOP class")
    if str(request.RequestedSOPInstanceUID) != PUSH_MODEL_INSTANCE:
        raise _Refused(_NO_SUCH_INSTANCE, "it is about another instance than the well-known one")
    if request.ActionTypeID != REQUEST:
        raise _Refused(_NO_SUCH_ACTION, "there is one action type")
    if request.ActionInformation is None:
        raise _Refused(_INVALID_ARGUMENT, "it says nothing")
    try:
        return decode_request(request.ActionInformation, str(event.context.transfer_syntax))
    except NotUnderstood as exc:
        raise _Refused(_INVALID_ARGUMENT, str(exc)) from exc
