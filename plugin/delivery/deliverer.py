"""Send the objects in the outbox to their destinations and record the outcomes.

Each destination has a thread and connections of its own, so that an unreachable one delays no other.
"""

import logging
import random
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info

from plugin.database.lease import lease_is_over
from plugin.database.pool import Connection
from plugin.delivery.destination_loop import run_exclusively
from plugin.delivery.dimse_sender import DimseSender
from plugin.delivery.orthanc_sender import OrthancSender
from plugin.delivery.result_source import DiskResults, ResultSource
from plugin.delivery.sender import BrokenOff, NotSent, Outcome, Outgoing, Sender, TakenClass
from plugin.delivery.stow_sender import StowSender
from plugin.errors import PeerFailed
from plugin.http.transfer import sha256_of
from plugin.jobs import destination_pauses, outbox
from plugin.jobs.outbox import OutboxEntry
from plugin.logs import Outage
from plugin.settings.destinations import (
    AnyDestination,
    DestinationSettings,
    OrthancDestinationSettings,
    StowDestinationSettings,
)
from plugin.settings.sections import DeliverySettings, OrthancSettings

_LOG = logging.getLogger(__name__)

_BATCH = 100
"""Objects taken from the outbox at once."""
_POLL_EVERY_S = 0.5
_JITTER = 0.2
_ECHO_S = 10.0


@dataclass(frozen=True, slots=True)
class EchoResult:
    """Whether a destination responds, and what it says."""

    destination: str
    answered: bool
    message: str
    classes: tuple[TakenClass, ...] = ()
    """How it takes objects of the classes that it was asked about; a web server and Orthanc cannot be asked."""

    @property
    def takes_all(self) -> bool:
        """Whether it takes objects of all these classes."""
        return self.answered and all(each.transfer_syntax_uids for each in self.classes)


@dataclass(frozen=True, slots=True)
class Lost:
    """A file of a result is missing or damaged."""

    what: str
    """A clause without its subject, the file."""


PutBack = Callable[[str, Path, str], str | None]
"""See `JobQueue.put_back`."""


def make_sender(
    destination: AnyDestination, calling_ae_title: str, timeout_s: float, orthanc: OrthancSettings | None = None
) -> Sender:
    """Make the sender for a destination; `orthanc` is needed for those reached through Orthanc."""
    if isinstance(destination, OrthancDestinationSettings):
        return OrthancSender(destination, orthanc or OrthancSettings(), timeout_s)
    if isinstance(destination, StowDestinationSettings):
        return StowSender(destination, timeout_s)
    return DimseSender(destination, calling_ae_title, timeout_s)


def echo(
    destination: AnyDestination,
    calling_ae_title: str,
    timeout_s: float = _ECHO_S,
    orthanc: OrthancSettings | None = None,
    sop_class_uids: Sequence[str] = (),
) -> EchoResult:
    """Check that a destination responds, and, of a DICOM peer, which of these storage classes it takes."""
    sender = make_sender(destination, calling_ae_title, timeout_s, orthanc)
    try:
        message = sender.echo()
        classes = sender.taken_classes(sop_class_uids) if isinstance(sender, DimseSender) and sop_class_uids else ()
    except PeerFailed as exc:
        return EchoResult(destination.name, False, str(exc))
    return EchoResult(destination.name, True, message, classes)


def retry_pause_s(attempts: int, settings: DeliverySettings, spread: float) -> float:
    """Return the seconds to wait after `attempts` failures: doubled each time up to the longest.

    `spread`, from -1 to 1, moves them by up to a fifth, so that retries do not come all at once.
    """
    doubled = settings.retry_first_s * 2.0 ** min(attempts - 1, 30)
    return min(doubled, settings.retry_longest_s) * (1 + _JITTER * spread)


class Deliverer:
    """Sends the due objects of one destination, in a thread of its own."""

    def __init__(
        self,
        url: str,
        destination: AnyDestination,
        calling_ae_title: str,
        settings: DeliverySettings,
        results: ResultSource | None = None,
        orthanc: OrthancSettings | None = None,
        put_back: PutBack | None = None,
    ) -> None:
        """`url` is that of the database. Without `results` the objects are read from their paths in the outbox.

        `put_back` has a job run again whose result is lost; without it, its objects are given up.
        """
        self._url = url
        self._results = results or DiskResults()
        self._name = destination.name
        self._requests_commitment = isinstance(destination, DestinationSettings) and destination.storage_commitment
        self._sender = make_sender(destination, calling_ae_title, settings.timeout_s, orthanc)
        self._settings = settings
        self._put_back = put_back
        self._paths: dict[str, str] = {}
        """Where the results keep the objects that are due, by SOP instance UID; they may be fetched to other paths."""
        self._is_reached = False
        self._outage = Outage(_LOG, f"sending to {destination.name}")

    def run(self, stop: threading.Event) -> None:
        """Send until `stop` is set. Failures are recorded in the outbox or logged, and retried."""
        run_exclusively(self._url, "deliver", self._name, self._run_with, stop)

    def _run_with(self, connection: Connection, stop: threading.Event) -> None:
        self._is_reached = False
        destination_pauses.try_now(connection, [self._name])  # the settings may be others since
        if not self._requests_commitment:
            outbox.cancel_commitment_requests(connection, self._name)
        while not stop.is_set():
            due = outbox.due(connection, self._name, _BATCH)
            self._paths = {each.sop_instance_uid: each.path for each in due}
            entries = self._results.fetch(due)
            if entries:
                self._send(connection, entries, stop)
            else:
                stop.wait(_POLL_EVERY_S)

    def _send(self, connection: Connection, entries: tuple[OutboxEntry, ...], stop: threading.Event) -> None:
        """Send objects, over a new connection where one broke off with an object."""
        left: dict[str, Outgoing] = {}
        for entry in entries:
            outgoing = _read_outgoing(entry)
            if isinstance(outgoing, Lost):
                self._record_lost(connection, entry, outgoing)
            elif isinstance(outgoing, NotSent):
                self._record_failure(connection, entry, outgoing)
            else:
                left[entry.sop_instance_uid] = outgoing
        while left and not stop.is_set():
            before = len(left)
            try:
                self._send_over_connection(connection, left, stop)
                return
            except BrokenOff as exc:
                if lease_is_over():  # that is why, and no fault of object or destination
                    return
                self._record_broken_off(connection, exc)
                for outgoing in exc.objects:
                    del left[outgoing.entry.sop_instance_uid]
                if len(left) == before:  # nothing went through, and nothing was under way
                    self._record_unreachable(connection, str(exc))
                    return
            except PeerFailed as exc:
                if not lease_is_over():
                    self._record_unreachable(connection, str(exc))
                return
            waiting = outbox.still_waiting(connection, self._name, left)
            left = {uid: outgoing for uid, outgoing in left.items() if uid in waiting}

    def _send_over_connection(self, connection: Connection, left: dict[str, Outgoing], stop: threading.Event) -> None:
        """Send objects and remove from `left` those with an outcome. Raises PeerFailed."""
        with closing(self._sender.send(tuple(left.values()))) as outcomes:
            for sent, outcome in outcomes:
                self._record_reached(connection)
                self._record(connection, sent, outcome)
                del left[sent.entry.sop_instance_uid]
                if stop.is_set():
                    return

    def _record_reached(self, connection: Connection) -> None:
        self._outage.works()
        if not self._is_reached:
            destination_pauses.record_reached(connection, self._name)
            self._is_reached = True

    def _record_unreachable(self, connection: Connection, reason: str) -> None:
        self._is_reached = False
        with connection.transaction():
            failures, pause = destination_pauses.record_unreachable(
                connection,
                self._name,
                reason,
                lambda failures: retry_pause_s(failures, self._settings, random.uniform(-1, 1)),
                self._settings.give_up_after_h,
            )
        _LOG.debug("try %d of %s failed; next try in %.1f s", failures, self._name, pause)
        self._outage.failed(reason)

    def _record_broken_off(self, connection: Connection, exc: BrokenOff) -> None:
        """Charge the object that was under way. Of several, which one it is shows when each goes alone."""
        self._record_reached(connection)
        uids = [each.entry.sop_instance_uid for each in exc.objects]
        if len(exc.objects) > 1:
            outbox.send_alone(connection, self._name, uids)
            _LOG.warning("%s broke off with one of %d objects, which go alone now: %s", self._name, len(uids), exc)
        for each in exc.objects if len(uids) == 1 else ():
            reason = f"{exc}; this object goes alone from now on, after the others"
            self._record_failure(connection, each.entry, NotSent(reason), alone=True)

    def _record(self, connection: Connection, outgoing: Outgoing, outcome: Outcome) -> None:
        if isinstance(outcome, NotSent):
            self._record_failure(connection, outgoing.entry, outcome)
            return
        uid = outgoing.entry.sop_instance_uid
        commit_as = outgoing.sop_class_uid if self._requests_commitment else None
        with connection.transaction():
            sha256 = outgoing.entry.sha256
            outbox.record_sent(connection, self._name, uid, outcome.remark, self._sender.peer, commit_as, sha256)
        if outcome.warning:
            _LOG.warning("sent %s to %s: %s: %s", uid, self._name, outcome.remark, outcome.warning)
        else:
            _LOG.info("sent %s to %s", uid, self._name)

    def _record_lost(self, connection: Connection, entry: OutboxEntry, lost: Lost) -> None:
        """Have the job run again, or give the object up where that would not help."""
        path = self._paths[entry.sop_instance_uid]
        what = f"the file {path} {lost.what}"
        again = "`glionode force STUDY --again` makes it once more"
        why = self._put_back(entry.job_key, Path(path), what) if self._put_back is not None else again
        if why is not None:
            self._record_failure(connection, entry, NotSent(f"{what}; {why}", final=True))

    def _record_failure(
        self, connection: Connection, entry: OutboxEntry, failure: NotSent, alone: bool = False
    ) -> None:
        age_h = (datetime.now(UTC) - entry.created_at).total_seconds() / 3600
        pause: float | None = retry_pause_s(entry.attempts + 1, self._settings, random.uniform(-1, 1))
        if failure.final or age_h > self._settings.give_up_after_h:
            pause = None
        with connection.transaction():
            outbox.record_failed(connection, self._name, entry.sop_instance_uid, failure.reason, pause, alone)
        then = "given up" if pause is None else f"next try in {pause:.1f} s"
        is_new = pause is None or failure.reason != entry.last_error
        level = logging.WARNING if is_new else logging.DEBUG
        _LOG.log(level, "could not send %s to %s: %s; %s", entry.sop_instance_uid, self._name, failure.reason, then)


def _read_outgoing(entry: OutboxEntry) -> Outgoing | NotSent | Lost:
    """Return an object with what its file says, or why it cannot be sent; a disk that fails may answer again."""
    try:
        meta = read_file_meta_info(Path(entry.path))
        outgoing = Outgoing(entry, str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID))
        uid = str(meta.MediaStorageSOPInstanceUID)
        is_whole = not entry.sha256 or sha256_of(Path(entry.path)).hex() == entry.sha256
    except (FileNotFoundError, NotADirectoryError, InvalidDicomError, AttributeError, EOFError, ValueError):
        return Lost("is missing or not DICOM")
    except OSError as exc:
        return NotSent(f"the file {entry.path} cannot be read ({exc.strerror})")
    if uid != entry.sop_instance_uid:
        return Lost(f"holds another object ({uid})")
    if not is_whole:
        return Lost("was changed or damaged after it was made")
    return outgoing
