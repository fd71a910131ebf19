"""Reports on the association on which was asked, for peers whose address nobody knows. Knows no archive.

The library's own way to send on an association that it serves takes the next message for the answer, whatever it is;
here the answer is picked out as it is received, and the association's other messages go their way.
"""

import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from pydicom.uid import UID
from pynetdicom.dimse_messages import N_ACTION_RSP, N_EVENT_REPORT_RSP
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.dsutils import encode

from plugin.dimse.commitment_messages import PUSH_MODEL, PUSH_MODEL_INSTANCE, CommitmentReport, encode_report
from plugin.errors import PeerFailed


@dataclass(slots=True)
class _Open:
    association: Any
    context: Any
    is_answered: bool = False
    """Whether the answer to the request went out, so that the report may follow it."""


class OpenAssociations:
    """Associations on which requests came, by the requests' names. Thread-safe."""

    def __init__(self, wake: threading.Event) -> None:
        """`wake` is set when something can be reported."""
        self._wake = wake
        self._lock = threading.Lock()
        self._settling = threading.Lock()
        self._open: dict[str, _Open] = {}
        self._answers: dict[int, queue.Queue[int]] = defaultdict(queue.Queue)

    @contextmanager
    def being_expected(self, event: Any) -> Iterator[Callable[[str], None]]:
        """Keep a request in the block, and call what this gives with its name, before anybody looks for it here."""

        def expect(name: str) -> None:
            with self._lock:
                self._open[name] = _Open(event.assoc, event.context)

        with self._settling:
            yield expect

    @contextmanager
    def settled(self) -> Iterator[None]:
        """While the block runs, no request is kept whose association is not known here yet."""
        with self._settling:
            yield

    def forget(self, name: str) -> None:
        """A request needs no association any more."""
        with self._lock:
            self._open.pop(name, None)

    def group_of(self, name: str) -> int | None:
        """Which association a request may be reported on; requests of one have equal numbers. None: it has ended."""
        with self._lock:
            entry = self._open.get(name)
            if entry is None or not entry.association.is_established:
                self._open.pop(name, None)
                return None
            return id(entry.association)

    def is_ready(self, name: str) -> bool:
        """Whether the request has been answered."""
        with self._lock:
            return name in self._open and self._open[name].is_answered

    def on_sent(self, event: Any) -> None:
        """The handler of pynetdicom's EVT_DIMSE_SENT, which comes as a message is about to be sent, in its turn."""
        if isinstance(event.message, N_ACTION_RSP):
            with self._lock:
                for entry in self._open.values():
                    if entry.association is event.assoc:
                        entry.is_answered = True
            self._wake.set()

    def on_received(self, event: Any) -> None:
        """The handler of pynetdicom's EVT_DIMSE_RECV."""
        if isinstance(event.message, N_EVENT_REPORT_RSP):
            status = event.message.command_set.get("Status")
            with self._lock:
                expected = self._answers.get(id(event.assoc))
            if expected is not None and isinstance(status, int):
                expected.put(status)

    def report(self, name: str, report: CommitmentReport, timeout_s: float) -> int:
        """Send a report; returns the status of its answer. One at a time on an association. Raises PeerFailed."""
        with self._lock:
            entry = self._open.get(name)
            if entry is None or not entry.association.is_established:
                raise PeerFailed("its association has ended")
            answers = self._answers[id(entry.association)]
        event_type, information = encode_report(report)
        syntax = UID(entry.context.transfer_syntax)
        message = N_EVENT_REPORT()
        message.MessageID = 1
        message.AffectedSOPClassUID = UID(PUSH_MODEL)
        message.AffectedSOPInstanceUID = UID(PUSH_MODEL_INSTANCE)
        message.EventTypeID = event_type
        message.EventInformation = BytesIO(encode(information, syntax.is_implicit_VR, syntax.is_little_endian) or b"")
        try:
            entry.association.dimse.send_msg(message, entry.context.context_id)
            return answers.get(timeout=timeout_s)
        except queue.Empty as exc:
            raise PeerFailed("it did not answer an N-EVENT-REPORT") from exc
        finally:
            with self._lock:
                self._answers.pop(id(entry.association), None)
