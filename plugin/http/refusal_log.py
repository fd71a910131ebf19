"""Log refused requests and connections: one line when an address begins to be refused, not one for each try."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

_LOG = logging.getLogger(__name__)

_AGAIN_AFTER_S = 600.0
_MOST_REMEMBERED = 1000


@dataclass(slots=True)
class _Refused:
    logged: float
    """Monotonic, seconds."""
    since: int = 0
    """How often since that line."""


class RefusalLog:
    """Writes a line for an address and reason, and the next one after ten minutes at the earliest. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._refused: dict[tuple[str, str], _Refused] = {}
        self._lock = threading.Lock()

    def refused(self, address: str, reason: str) -> None:
        """Note that something from `address` was refused; `reason` is a clause without the peer's own text."""
        now = self._clock()
        with self._lock:
            known = self._refused.get((address, reason))
            if known is not None and now - known.logged < _AGAIN_AFTER_S:
                known.since += 1
                return
            if known is None and len(self._refused) >= _MOST_REMEMBERED:
                del self._refused[next(iter(self._refused))]
            self._refused[address, reason] = _Refused(now)
        again = f" ({known.since} more since the last line)" if known is not None and known.since else ""
        _LOG.warning("refused HTTP from %s: %s%s", address or "an unknown address", reason, again)
