"""Send reports on the association on which commitment was requested, for senders without an address in the settings.

To send a request on an association that it accepted, pynetdicom takes whatever message comes next for the response.
Here the response is picked out of the messages as they are received, and the others are processed as usual.
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
from pynetdicom import Association
from pynetdicom.dimse_messages import N_ACTION_RSP, N_EVENT_REPORT_RSP
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.dsutils import encode

from plugin.dimse.commitment_messages import PUSH_MODEL, PUSH_MODEL_INSTANCE, CommitmentReport, encode_report
from plugin.errors import PeerFailed


@dataclass(slots=True)
class _Entry:
    association: Association
    context: Any
    """The presentation context of the request, as pynetdicom's events have it."""
    is_answered: bool = False
    """Whether the N-ACTION response was sent, so that the report may follow."""


class OpenAssociations:
    """The associations of pending requests, by the requests' names. Thread-safe."""

    def __init__(self, wake: threading.Event) -> None:
        """`wake` is set when a report can be sent."""
        self._wake = wake
        self._lock = threading.Lock()
        self._registration = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._statuses: dict[int, queue.Queue[int]] = defaultdict(queue.Queue)
        """Statuses of N-EVENT-REPORT responses, by the association's `id`."""

    @contextmanager
    def registering(self, event: Any) -> Iterator[Callable[[str], None]]:
        """Yield a function that registers the association of an N-ACTION under a request's name.

        The request is added to the pending ones within the block, so that `no_registration` sees both or neither.
        """

        def register(name: str) -> None:
            with self._lock:
                self._entries[name] = _Entry(event.assoc, event.context)

        with self._registration:
            yield register

    @contextmanager
    def no_registration(self) -> Iterator[None]:
        """Keep requests from being added while the block runs: those that are pending have their associations here."""
        with self._registration:
            yield

    def remove(self, name: str) -> None:
        """Remove a request that needs its association no longer."""
        with self._lock:
            self._entries.pop(name, None)

    def association_id(self, name: str) -> int | None:
        """Return a number for the association of a request, the same for all its requests; None if it has ended."""
        with self._lock:
            entry = self._entries.get(name)
            if entry is None or not entry.association.is_established:
                self._entries.pop(name, None)
                return None
            return id(entry.association)

    def is_answered(self, name: str) -> bool:
        """Return whether the response to the request was sent."""
        with self._lock:
            return name in self._entries and self._entries[name].is_answered

    def on_sent(self, event: Any) -> None:
        """Handle EVT_DIMSE_SENT, which comes just before a message is sent."""
        if isinstance(event.message, N_ACTION_RSP):
            with self._lock:
                for entry in self._entries.values():
                    if entry.association is event.assoc:
                        entry.is_answered = True
            self._wake.set()

    def on_received(self, event: Any) -> None:
        """Handle EVT_DIMSE_RECV: keep the status of an N-EVENT-REPORT response for `send_report`."""
        if isinstance(event.message, N_EVENT_REPORT_RSP):
            status = event.message.command_set.get("Status")
            with self._lock:
                statuses = self._statuses.get(id(event.assoc))
            if statuses is not None and isinstance(status, int):
                statuses.put(status)

    def send_report(self, name: str, report: CommitmentReport, timeout_s: float) -> int:
        """Send a report and return the status of the response. One at a time per association. Raises PeerFailed."""
        with self._lock:
            entry = self._entries.get(name)
            if entry is None or not entry.association.is_established:
                raise PeerFailed("the association of the request has ended")
            statuses = self._statuses[id(entry.association)]
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
            return statuses.get(timeout=timeout_s)
        except queue.Empty as exc:
            raise PeerFailed(f"the peer sent no N-EVENT-REPORT response within {timeout_s:g} s") from exc
        finally:
            with self._lock:
                self._statuses.pop(id(entry.association), None)
