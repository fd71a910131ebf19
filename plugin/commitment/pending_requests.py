"""Keep senders' requests for storage commitment: a file for each, from before its response until it is reported on.

The files are in the data folder, beside the archive that the requests are about, so that the node can keep its promise
after a crash, and while the database does not answer.

    commitments/<hash of AE title and transaction UID>.json
"""

import hashlib
import json
import logging
import threading
import time
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from pipeline.atomic_write import make_folders, write_file
from plugin.archive.incoming_file import disk_errors_as_no_room
from plugin.dimse.commitment_messages import CommitmentRequest, Reference

_LOG = logging.getLogger(__name__)

_FOLDER = "commitments"
_MOST_PENDING = 1000
_MOST_REFERENCES = 200_000
"""In all pending requests together, about 30 MB."""


@dataclass(frozen=True, slots=True)
class PendingRequest:
    """A request that was not reported on yet."""

    name: str
    ae_title: str
    address: str
    """Where the request came from; the settings say where its report goes."""
    transaction_uid: str
    count: int
    """How many instances it names."""
    asked_at: float
    """Seconds since 1970."""
    since: float
    """The same in seconds of this process's monotonic clock, by which it is given up: the other one can be set."""


class AddResult(Enum):
    """Whether a request was added."""

    PENDING = auto()
    """It is pending, as a new request or since it was first received."""
    CONFLICT = auto()
    """The transaction UID belongs to a pending request of the sender for other instances."""
    TOO_MANY = auto()
    """Too many requests or instances are pending."""


class PendingRequests:
    """The pending requests of a node. Thread-safe; for one process."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / _FOLDER
        make_folders(self._folder, within=data_dir, mode=0o700)
        self._lock = threading.Lock()
        self._pending = {each.name: each for each in map(_read, self._folder.glob("*.json")) if each is not None}
        for leftover in self._folder.glob(".*.part"):  # of a process that was killed while it wrote
            leftover.unlink()

    def add(self, ae_title: str, address: str, request: CommitmentRequest) -> AddResult:
        """Add a request; it is on disk when this returns PENDING. Raises NoRoom."""
        name = request_name(ae_title, request.transaction_uid)
        count, now = len(request.references), time.time()
        pending = PendingRequest(name, ae_title, address, request.transaction_uid, count, now, time.monotonic())
        with self._lock:
            if name in self._pending:
                same = set(self.references(name)) == set(request.references)
                return AddResult.PENDING if same else AddResult.CONFLICT
            count = sum(each.count for each in self._pending.values())
            if len(self._pending) >= _MOST_PENDING or count + pending.count > _MOST_REFERENCES:
                return AddResult.TOO_MANY
            with disk_errors_as_no_room():
                self._write(pending, request.references)
            self._pending[name] = pending
        return AddResult.PENDING

    def all(self) -> tuple[PendingRequest, ...]:
        """Return the pending requests, oldest first."""
        with self._lock:
            return tuple(sorted(self._pending.values(), key=lambda each: each.asked_at))

    def references(self, name: str) -> tuple[Reference, ...]:
        """Return the instances that a pending request names."""
        content = json.loads((self._folder / f"{name}.json").read_text())
        return tuple(Reference(*each) for each in content["references"])

    def remove(self, name: str) -> None:
        """Remove a request that was reported on or given up. May be called again."""
        with self._lock:
            self._pending.pop(name, None)
            (self._folder / f"{name}.json").unlink(missing_ok=True)

    def _write(self, pending: PendingRequest, references: tuple[Reference, ...]) -> None:
        content = {
            "ae_title": pending.ae_title,
            "address": pending.address,
            "transaction_uid": pending.transaction_uid,
            "asked_at": pending.asked_at,
            "references": [(each.sop_class_uid, each.sop_instance_uid) for each in references],
        }
        write_file(self._folder / f"{pending.name}.json", json.dumps(content))


def request_name(ae_title: str, transaction_uid: str) -> str:
    """Return the name of a sender's transaction, which is also that of its file."""
    return hashlib.sha256(f"{ae_title}\n{transaction_uid}".encode()).hexdigest()[:32]


def count_pending(data_dir: Path) -> int:
    """Return how many requests are pending, from outside the process that keeps them."""
    return sum(1 for _ in (data_dir / _FOLDER).glob("*.json"))


def _read(path: Path) -> PendingRequest | None:
    try:
        content = json.loads(path.read_text())
        return PendingRequest(
            path.stem,
            content["ae_title"],
            content["address"],
            content["transaction_uid"],
            len(content["references"]),
            content["asked_at"],
            time.monotonic() - max(0.0, time.time() - content["asked_at"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        _LOG.error("removed the storage commitment request %s, which cannot be read", path.name)
        path.unlink(missing_ok=True)
        return None
