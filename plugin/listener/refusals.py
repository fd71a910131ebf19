"""Count how often peers were refused since the node's start, by reason."""

import json
import logging
import threading
from collections import Counter
from pathlib import Path

from pipeline.atomic_write import write_file
from plugin.listener.access_control import Refusal
from plugin.logs import Outage

_LOG = logging.getLogger(__name__)

_FILE = "refusals.json"


class RefusalCounter:
    """The counts of a running listener, also in a file, because `glionode status` is another process."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / _FILE
        self._counts: Counter[Refusal] = Counter()
        self._lock = threading.Lock()
        self._outage = Outage(_LOG, f"{_FILE} with the counts of refused peers")
        self._write()

    def count(self, refusal: Refusal) -> None:
        """Count one refusal and write the file. Thread-safe."""
        with self._lock:
            self._counts[refusal] += 1
            self._write()

    def _write(self) -> None:
        try:
            counts = {refusal.value: count for refusal, count in self._counts.items()}
            write_file(self._path, json.dumps(counts), durable=False)  # the next start counts from zero anyway
            self._outage.works()
        except OSError as exc:  # on a full disk the listener goes on without the file
            self._outage.failed(f"it cannot be written ({exc.strerror})")


def read_refusals(data_dir: Path) -> dict[str, int]:
    """Return the counts by reason of the node that runs or ran last; empty where none ran."""
    try:
        counts: dict[str, int] = json.loads((data_dir / _FILE).read_text())
    except (OSError, ValueError):
        return {}
    return counts
