"""What senders want the node to commit to: a file for each request, there before it is answered, gone when reported on.

They lie beside the archive that they are about, so that the process which receives can keep its word after a crash, and
whether the database answers or not.

    commitments/<hash of AE title and transaction>.json
"""

import hashlib
import json
import logging
import threading
import time
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from pipeline.atomic_write import write_file
from plugin.archive.incoming_file import full_disk_is_no_room
from plugin.dimse.commitment_messages import CommitmentRequest, Reference

_LOG = logging.getLogger(__name__)

_FOLDER = "commitments"
_MOST_PENDING = 1000
_MOST_REFERENCES = 200_000
"""In all pending requests together, about 30 MB of them."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A request without a report."""

    name: str
    ae_title: str
    address: str
    """Where it came from; reports go where the settings say."""
    transaction_uid: str
    count: int
    """How many instances it names."""
    asked_at: float
    """Seconds since 1970."""


class Kept(Enum):
    """What became of a request."""

    KEPT = auto()
    """Now, or at an earlier time: the same one twice is one."""
    DIFFERENT = auto()
    """The sender has used its transaction UID for other instances before, and is not reported to yet."""
    TOO_MANY = auto()
    """So many are waiting for their reports."""


class CommitmentRequests:
    """The requests of a node. Thread-safe; for one process."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / _FOLDER
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._pending = {each.name: each for each in map(_read_head, self._folder.glob("*.json")) if each is not None}
        for leftover in self._folder.glob(".*.part"):  # of a process that was killed while it wrote
            leftover.unlink()

    def keep(self, ae_title: str, address: str, request: CommitmentRequest) -> tuple[Kept, str]:
        """Keep a request, durably when this returns; with the name that it has here. Raises NoRoom."""
        name = hashlib.sha256(f"{ae_title}\n{request.transaction_uid}".encode()).hexdigest()[:32]
        pending = Pending(name, ae_title, address, request.transaction_uid, len(request.references), time.time())
        with self._lock:
            if name in self._pending:
                same = set(self.references(name)) == set(request.references)
                return (Kept.KEPT if same else Kept.DIFFERENT), name
            waiting = sum(each.count for each in self._pending.values())
            if len(self._pending) >= _MOST_PENDING or waiting + pending.count > _MOST_REFERENCES:
                return Kept.TOO_MANY, name
            with full_disk_is_no_room():
                self._write(pending, request.references)
            self._pending[name] = pending
        return Kept.KEPT, name

    def pending(self) -> tuple[Pending, ...]:
        """What is to be reported, the oldest first."""
        with self._lock:
            return tuple(sorted(self._pending.values(), key=lambda each: each.asked_at))

    def references(self, name: str) -> tuple[Reference, ...]:
        """The instances that a pending request names."""
        content = json.loads((self._folder / f"{name}.json").read_text())
        return tuple(Reference(*each) for each in content["references"])

    def done(self, name: str) -> None:
        """Forget a request: it is reported, or nobody waits for that. Does no harm twice."""
        with self._lock:
            self._pending.pop(name, None)
            (self._folder / f"{name}.json").unlink(missing_ok=True)

    def _write(self, pending: Pending, references: tuple[Reference, ...]) -> None:
        content = {
            "ae_title": pending.ae_title,
            "address": pending.address,
            "transaction_uid": pending.transaction_uid,
            "asked_at": pending.asked_at,
            "references": [(each.sop_class_uid, each.sop_instance_uid) for each in references],
        }
        write_file(self._folder / f"{pending.name}.json", json.dumps(content))


def count_pending(data_dir: Path) -> int:
    """How many requests wait for their reports, from outside the process that has them."""
    return sum(1 for _ in (data_dir / _FOLDER).glob("*.json"))


def _read_head(path: Path) -> Pending | None:
    try:
        content = json.loads(path.read_text())
        return Pending(
            path.stem,
            content["ae_title"],
            content["address"],
            content["transaction_uid"],
            len(content["references"]),
            content["asked_at"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        _LOG.error("a request for storage commitment cannot be read and is removed: %s", path.name)
        path.unlink(missing_ok=True)
        return None
