"""How often peers were refused since the node's start, by reason: counted by the listener, read by `status`."""

import json
import logging
import threading
from collections import Counter
from pathlib import Path

from pipeline.atomic_write import write_file
from plugin.listener.access_control import Refusal

_LOG = logging.getLogger(__name__)

_FILE = "refusals.json"


class Refusals:
    """The counts of a running listener. A file has them too, because `status` is another process."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / _FILE
        self._counts: Counter[Refusal] = Counter()
        self._one_at_a_time = threading.Lock()
        self._write()

    def count(self, refusal: Refusal) -> None:
        """Count one more."""
        with self._one_at_a_time:
            self._counts[refusal] += 1
            self._write()

    def _write(self) -> None:
        try:
            counts = {refusal.value: count for refusal, count in self._counts.items()}
            write_file(self._path, json.dumps(counts), durable=False)  # the next start counts from zero anyway
        except OSError as exc:  # a full disk takes no counts; the listener goes on
            _LOG.warning("refusals could not be noted (%s)", exc.strerror)


def read_refusals(data_dir: Path) -> dict[str, int]:
    """The counts by reason, of the node that runs or ran last; empty where none ran."""
    try:
        counts: dict[str, int] = json.loads((data_dir / _FILE).read_text())
    except (OSError, ValueError):
        return {}
    return counts
