"""Send the objects in the outbox to their destinations and record the outcomes.

Each destination has a thread and connections of its own, so that an unreachable one delays no other.
"""

import logging
import random
import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info

from plugin.database.pool import Connection
from plugin.delivery.destination_loop import run_exclusively
from plugin.delivery.dimse_sender import DimseSender
from plugin.delivery.orthanc_sender import OrthancSender
from plugin.delivery.result_source import DiskResults, ResultSource
from plugin.delivery.sender import NotSent, Outcome, Outgoing, Sender, TakenClass
from plugin.delivery.stow_sender import StowSender
from plugin.errors import PeerFailed
from plugin.http.transfer import sha256_of
from plugin.jobs import outbox
from plugin.jobs.outbox import OutboxEntry
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
    ) -> None:
        """`url` is that of the database. Without `results` the objects are read from their paths in the outbox."""
        self._url = url
        self._results = results or DiskResults()
        self._name = destination.name
        self._requests_commitment = isinstance(destination, DestinationSettings) and destination.storage_commitment
        self._sender = make_sender(destination, calling_ae_title, settings.timeout_s, orthanc)
        self._settings = settings
        self._is_unreachable = False

    def run(self, stop: threading.Event) -> None:
        """Send until `stop` is set. Failures are recorded in the outbox or logged, and retried."""
        run_exclusively(self._url, "deliver", self._name, self._run_with, stop)

    def _run_with(self, connection: Connection, stop: threading.Event) -> None:
        if not self._requests_commitment:
            outbox.cancel_commitment_requests(connection, self._name)
        while not stop.is_set():
            entries = self._results.fetch(outbox.due(connection, self._name, _BATCH))
            if entries:
                self._send(connection, entries, stop)
            else:
                stop.wait(_POLL_EVERY_S)

    def _send(self, connection: Connection, entries: tuple[OutboxEntry, ...], stop: threading.Event) -> None:
        left: dict[str, Outgoing] = {}
        for entry in entries:
            outgoing = _read_outgoing(entry)
            if isinstance(outgoing, NotSent):
                self._record_failure(connection, entry, outgoing)
            else:
                left[entry.sop_instance_uid] = outgoing
        if not left:
            return
        try:
            with closing(self._sender.send(tuple(left.values()))) as outcomes:
                for sent, outcome in outcomes:
                    if self._is_unreachable:  # it responds again: do not wait for the pauses
                        outbox.retry_failed_now(connection, self._name)
                        self._is_unreachable = False
                    self._record(connection, sent, outcome)
                    del left[sent.entry.sop_instance_uid]
                    if stop.is_set():
                        return
        except PeerFailed as exc:
            self._is_unreachable = True
            for outgoing in left.values():
                self._record_failure(connection, outgoing.entry, NotSent(str(exc)))

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

    def _record_failure(self, connection: Connection, entry: OutboxEntry, failure: NotSent) -> None:
        age_h = (datetime.now(UTC) - entry.created_at).total_seconds() / 3600
        pause: float | None = retry_pause_s(entry.attempts + 1, self._settings, random.uniform(-1, 1))
        if failure.final or age_h > self._settings.give_up_after_h:
            pause = None
        with connection.transaction():
            outbox.record_failed(connection, self._name, entry.sop_instance_uid, failure.reason, pause)
        then = "given up" if pause is None else f"next try in {pause:.1f} s"
        _LOG.warning("could not send %s to %s: %s; %s", entry.sop_instance_uid, self._name, failure.reason, then)


def _read_outgoing(entry: OutboxEntry) -> Outgoing | NotSent:
    """Return an object with what its file says, or why it cannot be sent; a disk that fails may answer again."""
    try:
        meta = read_file_meta_info(Path(entry.path))
        outgoing = Outgoing(entry, str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID))
        uid = str(meta.MediaStorageSOPInstanceUID)
        is_whole = not entry.sha256 or sha256_of(Path(entry.path)).hex() == entry.sha256
    except (FileNotFoundError, NotADirectoryError, InvalidDicomError, AttributeError, EOFError, ValueError):
        return NotSent(f"the file {entry.path} is missing or not DICOM", final=True)
    except OSError as exc:
        return NotSent(f"the file {entry.path} cannot be read ({exc.strerror})")
    if uid != entry.sop_instance_uid:
        return NotSent(f"the file {entry.path} holds another object ({uid})", final=True)
    if not is_whole:
        again = "`glionode force STUDY --again` makes it once more"
        return NotSent(f"the file {entry.path} was changed or damaged after it was made; {again}", final=True)
    return outgoing
