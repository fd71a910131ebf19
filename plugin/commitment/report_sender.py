"""Reports on the commitment that senders asked for: made, sent, tried again, given up.

A report goes to where the settings say that its sender is, on an association of its own; where they do not say, on the
one on which was asked, for as long as that is open. Each sender has a thread of its own while there is something to
report, so that a dead one delays no other.
"""

import logging
import random
import threading
import time
from collections import defaultdict
from collections.abc import Hashable

from pynetdicom import Association

from plugin.archive.store import Archive
from plugin.commitment.open_associations import OpenAssociations
from plugin.commitment.pending_requests import CommitmentRequests, Pending
from plugin.commitment.report_address import find_receiver, receiver_address
from plugin.commitment.verify import make_report
from plugin.delivery.deliverer import pause_after
from plugin.dimse.association import Proposal, associated
from plugin.dimse.commitment_messages import (
    PUSH_MODEL,
    PUSH_MODEL_INSTANCE,
    TRANSFER_SYNTAXES,
    CommitmentReport,
    encode_report,
)
from plugin.errors import PeerFailed
from plugin.settings.sections import Settings

_LOG = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.5

# Statuses of an N-EVENT-REPORT answer, PS3.7 10.1.1.1.8.
_SUCCESS = 0x0000
_MAY_GO_BETTER = (0x0110, 0x0213)
"""Processing failure and resource limitation: the report is sent again. Others are the sender's last word."""

_PROPOSAL = Proposal(tuple((PUSH_MODEL, str(syntax)) for syntax in TRANSFER_SYNTAXES), as_scp_of=(PUSH_MODEL,))


class CommitmentReporter:
    """Reports on what is pending; its failures are tried again with the pauses of delivery, and given up with it."""

    def __init__(
        self,
        settings: Settings,
        archive: Archive,
        requests: CommitmentRequests,
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
        self._failures: dict[str, tuple[int, float]] = {}
        """How often a report failed, and when it may be tried again by the monotonic clock."""

    def run(self, stop: threading.Event) -> None:
        """Report until `stop`. What goes wrong is logged and tried again."""
        while not stop.is_set():
            self._wake.clear()
            try:
                self._look(stop)
            except Exception as exc:  # noqa: BLE001 - the outermost loop of this thread; the files stay
                _LOG.error("reporting on storage commitment failed (%s)", type(exc).__name__)
            self._wake.wait(_LOOK_EVERY_S)

    def _look(self, stop: threading.Event) -> None:
        """Begin to report what is due, where nobody is at it."""
        groups: dict[Hashable, list[Pending]] = defaultdict(list)
        with self._open.settled():
            all_pending = self._requests.pending()
        for pending in all_pending:
            if time.time() - pending.asked_at > self._settings.delivery.give_up_after_h * 3600:
                self._give_up(pending, "it was tried for long enough")
                continue
            group: Hashable = pending.ae_title
            if find_receiver(self._settings, pending.ae_title, pending.address) is None:
                group = self._open.group_of(pending.name)
                if group is None:
                    self._give_up(pending, "its association has ended, and the settings do not say where its sender is")
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
        """Whether its pause is over; a report before the answer to its request would surprise the sender."""
        _, next_try = self._failures.get(name, (0, 0.0))
        is_being_asked = self._open.group_of(name) is not None and not self._open.is_ready(name)
        return time.monotonic() >= next_try and not is_being_asked

    def _report_all(self, group: Hashable, due: list[Pending], stop: threading.Event) -> None:
        left = list(due)
        try:
            receiver = find_receiver(self._settings, due[0].ae_title, due[0].address)
            if receiver is None:
                self._report_where_asked(left, stop)
                return
            calling, timeout_s = self._settings.listener.ae_title, self._settings.delivery.timeout_s
            with associated(receiver_address(self._settings, receiver), calling, _PROPOSAL, timeout_s) as association:
                while left and not stop.is_set():
                    self._judge(left[0], _send(association, self._make(left[0])))
                    left.pop(0)
        except PeerFailed as exc:
            for pending in left:
                self._failed(pending, str(exc))
        except Exception as exc:  # noqa: BLE001 - the outermost line of this thread; the files stay
            for pending in left:
                self._failed(pending, f"internal error ({type(exc).__name__})")
        finally:
            with self._lock:
                self._busy.discard(group)
            self._wake.set()

    def _report_where_asked(self, left: list[Pending], stop: threading.Event) -> None:
        while left and not stop.is_set():
            report = self._make(left[0])
            self._judge(left[0], self._open.report(left[0].name, report, self._settings.delivery.timeout_s))
            left.pop(0)

    def _make(self, pending: Pending) -> CommitmentReport:
        return make_report(self._archive, pending.transaction_uid, self._requests.references(pending.name))

    def _judge(self, pending: Pending, status: int) -> None:
        if status in _MAY_GO_BETTER:
            self._failed(pending, f"it answers the report with status 0x{status:04X}")
            return
        if status != _SUCCESS:
            _LOG.warning("transaction %s: the report is answered with status 0x%04X", pending.transaction_uid, status)
        _LOG.info("transaction %s is reported to %s", pending.transaction_uid, pending.ae_title)
        self._forget(pending)

    def _failed(self, pending: Pending, why: str) -> None:
        attempts = self._failures.get(pending.name, (0, 0.0))[0] + 1
        pause = pause_after(attempts, self._settings.delivery, random.uniform(-1, 1))
        self._failures[pending.name] = (attempts, time.monotonic() + pause)
        _LOG.warning("transaction %s is not reported: %s; next try in %.1f s", pending.transaction_uid, why, pause)

    def _give_up(self, pending: Pending, why: str) -> None:
        _LOG.warning("transaction %s is not reported and is given up: %s", pending.transaction_uid, why)
        self._forget(pending)

    def _forget(self, pending: Pending) -> None:
        self._requests.done(pending.name)
        self._open.forget(pending.name)
        self._failures.pop(pending.name, None)


def _send(association: Association, report: CommitmentReport) -> int:
    """Send a report and return the status of its answer. Raises PeerFailed."""
    event_type, information = encode_report(report)
    try:
        answer, _ = association.send_n_event_report(information, event_type, PUSH_MODEL, PUSH_MODEL_INSTANCE)
    except (RuntimeError, ValueError) as exc:
        raise PeerFailed("it ended the association, or takes no reports") from exc
    status = getattr(answer, "Status", None)
    if status is None:
        raise PeerFailed("it did not answer an N-EVENT-REPORT")
    return int(status)
