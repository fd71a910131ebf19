"""The open connections of the listener: which of them does something useful, and which ends for another or by its age.

Useful is what the listener is for: images, and messages of storage commitment. A C-ECHO is not, so that peers that
only echo keep nobody out; and a connection without an association request is not.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from plugin.listener.access_control import TOO_MANY, Refusal, check_connection, check_title
from plugin.settings.sections import ListenerSettings

_LEAST_PROGRESS_BYTES = 16384
"""What has to come of an object within each period of `idle_timeout_s`; a modem of 1990 brings ten times as much."""
_PATIENCE_S = 10.0
"""An association that was useful so recently does not end for another one: senders pause between images."""

_END_WITHIN_S = 1.0
"""What a thread needs to notice that its connection has ended."""


def _now() -> float:
    return time.monotonic()


@dataclass(eq=False, slots=True)
class OpenConnection:
    """A connection, with what it has done. Its own threads write here without a lock; others read."""

    address: str
    end: Callable[[Refusal], None]
    """Ends it at once, from any thread."""
    opened: float = field(default_factory=_now)
    """This and the following times are monotonic, in seconds."""
    calling_ae_title: str | None = None
    """None until it has requested an association."""
    last_useful: float = field(default_factory=_now)
    """When the last image or storage commitment message came, the association was requested, or an image grew."""
    receives_object: bool = False
    """Whether it is within the data set of a C-STORE."""
    waits_for_us: bool = False
    """Whether an image is being stored."""
    _bytes: int = 0

    def request(self, calling_ae_title: str) -> None:
        """Note that it has requested an association."""
        self.calling_ae_title = calling_ae_title
        self.worked()

    def worked(self) -> None:
        """Note that it did something useful."""
        self.last_useful, self._bytes = time.monotonic(), 0

    def received(self, size: int) -> None:
        """Note a part of an object; a few bytes do not count."""
        self._bytes += size
        if self._bytes >= _LEAST_PROGRESS_BYTES:
            self.worked()

    @contextmanager
    def storing(self) -> Iterator[None]:
        """Note that an image is being stored, for as long as the block runs."""
        self.receives_object, self.waits_for_us = False, True
        try:
            yield
        finally:
            self.worked()
            self.waits_for_us = False

    def useless_since(self, now: float) -> float | None:
        """Return since when it may end for another one; None if it may not."""
        if self.calling_ae_title is None:
            return self.opened
        return None if self.waits_for_us or now - self.last_useful < _PATIENCE_S else self.last_useful

    def overdue(self, settings: ListenerSettings, now: float) -> Refusal | None:
        """Return why it has to end by its age, None if it does not."""
        age = now - self.last_useful
        if self.calling_ae_title is None or self.waits_for_us:
            return None  # pdu_reader.py limits the time to the request
        if self.receives_object and age > settings.idle_timeout_s:
            return Refusal.TOO_SLOW
        return Refusal.USELESS if age > settings.useless_timeout_s else None


class OpenConnections:
    """All connections of the listener. Thread-safe."""

    def __init__(self, settings: ListenerSettings) -> None:
        self._settings = settings
        self._open: dict[OpenConnection, None] = {}
        self._changed = threading.Condition()

    @contextmanager
    def counted(self, new: OpenConnection) -> Iterator[Refusal | None]:
        """Count a connection while the block runs; yield the reason if it has to be refused."""
        with self._changed:
            self._open[new] = None
            refusal, victim = self._admit(new)
        if victim is not None:
            victim.end(Refusal.GAVE_WAY)
        try:
            yield refusal
        finally:
            with self._changed:
                self._open.pop(new, None)
                self._changed.notify_all()

    def _admit(self, new: OpenConnection) -> tuple[Refusal | None, OpenConnection | None]:
        """Return why a new connection is refused, or the one that ends for it."""
        same = [each for each in self._open if each.address == new.address]
        refusal = check_connection(self._settings, new.address, len(self._open), len(same))
        if refusal not in TOO_MANY:
            return refusal, None
        crowd = same
        if len(same) <= self._settings.max_associations_per_peer:
            useless = [
                each for each in self._open if each.useless_since(time.monotonic()) is not None and each is not new
            ]
            counts = Counter(each.address for each in useless)
            crowd = [each for each in useless if each.address == counts.most_common(1)[0][0]]
        victim = self._most_useless([each for each in crowd if each is not new])
        return (refusal, None) if victim is None else (None, victim)

    def request(self, connection: OpenConnection, calling_ae_title: str) -> Refusal | None:
        """Note an association request; return why there are too many associations of the AE title, None if not."""
        title = calling_ae_title.strip()
        with self._changed:
            connection.request(title)
            same = [each for each in self._open if each.calling_ae_title == title]
            refusal = check_title(self._settings, len(same))
            victim = self._most_useless([each for each in same if each is not connection]) if refusal else None
        if victim is None:
            return refusal
        victim.end(Refusal.GAVE_WAY)
        return None

    def _most_useless(self, connections: list[OpenConnection]) -> OpenConnection | None:
        """Return the one that was useless for longest, which is counted no longer; None if none is."""
        now = time.monotonic()
        since = {each: at for each in connections if (at := each.useless_since(now)) is not None}
        if not since:
            return None
        victim = min(since, key=lambda each: since[each])
        del self._open[victim]
        return victim

    def end_overdue(self) -> None:
        """End the associations that are useless, or too slow, for too long."""
        with self._changed:
            now = time.monotonic()
            overdue = [(each, why) for each in self._open if (why := each.overdue(self._settings, now)) is not None]
            for each, _ in overdue:
                del self._open[each]
        for each, why in overdue:
            each.end(why)

    def end_all(self, drain_s: float) -> None:
        """Wait up to `drain_s` seconds for all to end by themselves, and end those that are left."""
        with self._changed:
            self._changed.wait_for(lambda: not self._open, drain_s)
            left = list(self._open)
        for each in left:
            each.end(Refusal.STOPPING)
        with self._changed:
            self._changed.wait_for(lambda: not self._open, _END_WITHIN_S)
