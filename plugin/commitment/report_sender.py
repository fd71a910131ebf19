"""Send reports on the commitment that senders requested; retry those that fail, and give up in the end.

The settings alone say where a report goes, on an association of its own: what a peer says of itself or of others never
makes the node open a connection. A sender without an address in the settings gets its report on the association of its
request, for as long as that is open. Each sender has a thread while there is something to report, so that an
unreachable one delays no other.
"""

import logging
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Hashable

from pynetdicom import Association

from pipeline.errors import SettingsWrong
from plugin.archive.store import Archive
from plugin.commitment.open_associations import OpenAssociations
from plugin.commitment.pending_requests import PendingRequest, PendingRequests
from plugin.commitment.verify import make_report
from plugin.delivery.deliverer import retry_pause_s
from plugin.dimse.association import PeerAddress, Proposal, ProposedContext, open_association, peer_address
from plugin.dimse.commitment_messages import (
    PUSH_MODEL,
    PUSH_MODEL_INSTANCE,
    TRANSFER_SYNTAXES,
    CommitmentReport,
    encode_report,
)
from plugin.errors import PeerFailed
from plugin.listener.access_control import is_in_networks
from plugin.logs import Outage
from plugin.settings.destinations import DestinationSettings
from plugin.settings.sections import SenderSettings, Settings
from plugin.settings.tls_reload import current_identity_context

_LOG = logging.getLogger(__name__)

_POLL_EVERY_S = 0.5

# Statuses of an N-EVENT-REPORT response, PS3.7 10.1.1.1.8.
_SUCCESS = 0x0000
_RETRIED = (0x0110, 0x0213)
"""Processing failure and resource limitation. After any other failure the report is not sent again."""

_PROPOSAL = Proposal(
    tuple(ProposedContext(PUSH_MODEL, str(syntax)) for syntax in TRANSFER_SYNTAXES), as_scp_of=(PUSH_MODEL,)
)

SendReport = Callable[[PendingRequest, CommitmentReport], int]
"""Sends a report and returns the status of the response. Raises PeerFailed."""


class CommitmentReportSender:
    """Reports on pending requests. Failures are retried with the pauses of delivery, and given up after as long."""

    def __init__(
        self,
        settings: Settings,
        archive: Archive,
        requests: PendingRequests,
        open_associations: OpenAssociations,
        wake: threading.Event,
    ) -> None:
        self._settings = settings
        self._archive = archive
        self._requests = requests
        self._open = open_associations
        self._wake = wake
        self._lock = threading.Lock()
        self._busy: set[Hashable] = set()
        """The senders, or associations, that a thread reports to."""
        self._failures: dict[str, tuple[int, float]] = {}
        """How often a report failed, and when to retry by the monotonic clock; by the request's name."""
        self._outage = Outage(_LOG, "sending storage commitment reports")

    def run(self, stop: threading.Event) -> None:
        """Send reports until `stop` is set. Failures are logged and retried."""
        while not stop.is_set():
            self._wake.clear()
            try:
                self._start_reports(stop)
                self._outage.works()
            except Exception as exc:  # noqa: BLE001 - the outermost loop of this thread; the files stay
                self._outage.failed(f"it failed ({type(exc).__name__})", level=logging.ERROR)
            self._wake.wait(_POLL_EVERY_S)

    def _start_reports(self, stop: threading.Event) -> None:
        """Start a thread for each sender with due reports that has none."""
        groups: dict[Hashable, list[PendingRequest]] = defaultdict(list)
        with self._open.no_registration():
            all_pending = self._requests.all()
        for pending in all_pending:
            if time.monotonic() - pending.since > self._settings.delivery.give_up_after_h * 3600:
                self._give_up(pending, f"it failed for {self._settings.delivery.give_up_after_h:g} h")
                continue
            group: Hashable = pending.ae_title
            if find_receiver(self._settings, pending.ae_title, pending.address) is None:
                group = self._open.association_id(pending.name)
                if group is None:
                    self._give_up(pending, "its association has ended and the settings have no address of its sender")
                    continue
            if self._is_due(pending.name):
                groups[group].append(pending)
        for group, due in groups.items():
            with self._lock:
                if group in self._busy:
                    continue
                self._busy.add(group)
            threading.Thread(target=self._report_all, args=(group, due, stop), daemon=True).start()

    def _is_due(self, name: str) -> bool:
        """Return whether the report may be sent: its pause is over, and its request has got its response."""
        _, next_try = self._failures.get(name, (0, 0.0))
        is_unanswered = self._open.association_id(name) is not None and not self._open.is_answered(name)
        return time.monotonic() >= next_try and not is_unanswered

    def _report_all(self, group: Hashable, due: list[PendingRequest], stop: threading.Event) -> None:
        left = list(due)
        delivery = self._settings.delivery
        try:
            receiver = find_receiver(self._settings, due[0].ae_title, due[0].address)
            if receiver is None:
                self._send_each(
                    left, lambda each, made: self._open.send_report(each.name, made, delivery.timeout_s), stop
                )
                return
            address, calling = receiver_address(self._settings, receiver), self._settings.listener.ae_title
            with open_association(address, calling, _PROPOSAL, delivery.timeout_s) as association:
                self._send_each(left, lambda _, made: _send_report(association, made), stop)
        except PeerFailed as exc:
            for pending in left:
                self._record_failure(pending, str(exc))
        except Exception as exc:  # noqa: BLE001 - the outermost line of this thread; the files stay
            for pending in left:
                self._record_failure(pending, f"internal error ({type(exc).__name__})")
        finally:
            with self._lock:
                self._busy.discard(group)
            self._wake.set()

    def _send_each(self, left: list[PendingRequest], send: SendReport, stop: threading.Event) -> None:
        """Send reports one after the other; what was sent is removed from `left`. Raises PeerFailed."""
        while left and not stop.is_set():
            references = self._requests.references(left[0].name)
            self._record_status(left[0], send(left[0], make_report(self._archive, left[0].transaction_uid, references)))
            left.pop(0)

    def _record_status(self, pending: PendingRequest, status: int) -> None:
        if status in _RETRIED:
            self._record_failure(pending, f"the peer responded with status 0x{status:04X}")
            return
        if status != _SUCCESS:
            _LOG.warning("transaction %s: the report got status 0x%04X", pending.transaction_uid, status)
        _LOG.info("transaction %s was reported to %s", pending.transaction_uid, pending.ae_title)
        self._remove(pending)

    def _record_failure(self, pending: PendingRequest, reason: str) -> None:
        attempts = self._failures.get(pending.name, (0, 0.0))[0] + 1
        pause = retry_pause_s(attempts, self._settings.delivery, random.uniform(-1, 1))
        self._failures[pending.name] = (attempts, time.monotonic() + pause)
        if attempts == 1:
            again = "it is tried again, with no line for each try"
            _LOG.warning("transaction %s: no report sent: %s; %s", pending.transaction_uid, reason, again)

    def _give_up(self, pending: PendingRequest, reason: str) -> None:
        _LOG.warning("transaction %s: the report is given up: %s", pending.transaction_uid, reason)
        self._remove(pending)

    def _remove(self, pending: PendingRequest) -> None:
        self._requests.remove(pending.name)
        self._open.remove(pending.name)
        self._failures.pop(pending.name, None)


def find_receiver(settings: Settings, ae_title: str, address: str) -> SenderSettings | DestinationSettings | None:
    """Find who takes the reports of a sender that called from an address.

    That is the sender itself, where the settings have its host, else a destination of the same AE title.
    """
    for sender in settings.listener.senders:
        if sender.ae_title == ae_title and sender.host and is_in_networks(address, sender.networks):
            return sender
    for destination in settings.destinations:
        if isinstance(destination, DestinationSettings) and destination.ae_title == ae_title:
            return destination
    return None


def receiver_address(settings: Settings, receiver: SenderSettings | DestinationSettings) -> PeerAddress:
    """Return the address of a receiver of reports. Raises PeerFailed where certificates cannot be used."""
    if isinstance(receiver, DestinationSettings):
        return peer_address(receiver)
    tls, listener = None, settings.listener
    if receiver.tls:
        try:
            tls = current_identity_context(listener.tls_client_ca, "listener.tls_client_ca", listener, "listener")
        except SettingsWrong as exc:
            raise PeerFailed(str(exc)) from exc
    return PeerAddress(receiver.ae_title, receiver.host, receiver.port, tls)


def _send_report(association: Association, report: CommitmentReport) -> int:
    """Send a report and return the status of the response. Raises PeerFailed."""
    event_type, information = encode_report(report)
    try:
        response, _ = association.send_n_event_report(information, event_type, PUSH_MODEL, PUSH_MODEL_INSTANCE)
    except (RuntimeError, ValueError) as exc:
        raise PeerFailed("the peer ended the association, or does not accept reports") from exc
    status = getattr(response, "Status", None)
    if status is None:
        raise PeerFailed("the peer sent no N-EVENT-REPORT response")
    return int(status)
