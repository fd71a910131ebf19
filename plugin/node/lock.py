"""What keeps a node alone on its data folder and an archive alone on its database, and a note of who runs.

The operating system releases the lock of a folder when the process that holds it ends, however that happens.
"""

import fcntl
import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import BinaryIO

import psycopg

from pipeline.atomic_write import make_folders, write_file
from pipeline.errors import SettingsWrong
from plugin.database.lease import Lease, acquire, renewing
from plugin.database.pool import Connection

_LOG = logging.getLogger(__name__)

_LOCK, _NOTE = "serve.lock", "serve.json"
_WAIT_S = 2.0
"""`running_node` holds the lock for an instant; that is not a second node."""
_ARCHIVE_LEASE = "receive"
_LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class RunningNode:
    """A node that is running."""

    pid: int
    ae_title: str
    host: str
    port: int
    started_at: float
    """Seconds since 1970."""
    http_url: str = ""
    """The base URL of health and metrics; empty if the node does not serve HTTP."""


@contextmanager
def node_lock(data_dir: Path) -> Iterator[None]:
    """Hold the lock of a data folder. Raises SettingsWrong if another node holds it."""
    make_folders(data_dir, mode=0o700)
    with _open_lock(data_dir) as file:
        deadline = time.monotonic() + _WAIT_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as exc:
                if time.monotonic() > deadline:
                    raise SettingsWrong(
                        f"A node is already running on {data_dir}; `glionode status` shows it. Give each node its own "
                        "storage.data_dir."
                    ) from exc
                time.sleep(0.05)
        try:
            yield
        finally:
            (data_dir / _NOTE).unlink(missing_ok=True)


def _open_lock(data_dir: Path) -> BinaryIO:
    """Open the lock's file, which nobody else can: whoever opens it, for reading even, can hold the lock."""
    try:
        descriptor = os.open(data_dir / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise SettingsWrong(
            f"The lock {data_dir / _LOCK} cannot be opened: {exc.strerror}. It must be a file of the node's user, in a "
            "writable folder; remove what is in its place, or choose another storage.data_dir."
        ) from exc
    os.fchmod(descriptor, 0o600)
    return os.fdopen(descriptor, "r+b")


@contextmanager
def archive_lock(url: str, stop: threading.Event) -> Iterator[None]:
    """Be the one process that receives, among all processes on all hosts that share a database.

    Workers fetch the images of a job from one archive; they would not find those of a second one. Receiving goes on
    while the database does not answer. If another process took over meanwhile, `stop` is set.

    Raises:
        SettingsWrong: another process receives, or took over before the block ended.
    """
    with psycopg.connect(url, autocommit=True) as connection:
        lease = _archive_lease(connection, stop)
    taken_over = threading.Event()

    def on_lost() -> None:
        taken_over.set()
        stop.set()

    with renewing(url, lease, on_lost):
        yield
    if taken_over.is_set():
        raise SettingsWrong(
            "Another `glionode listen` or `glionode serve` receives with this database since this one lost its "
            "connection to it. What this one received is in its storage.data_dir and becomes jobs when it runs again; "
            "stop the other one before."
        )


def _archive_lease(connection: Connection, stop: threading.Event) -> Lease:
    """Take the lease; wait where its owner may be gone. Raises SettingsWrong where the owner renews it."""
    first = None
    while True:
        lease = acquire(connection, _ARCHIVE_LEASE, stop, until_taken=True)
        if lease is not None:
            return lease
        row = connection.execute(
            "SELECT owner, expires_at FROM glionode_leases WHERE name = %s", (_ARCHIVE_LEASE,)
        ).fetchone()
        if first is None:
            _LOG.info("another process received with this database; waiting until it shows whether it still does")
        first = first or row
        if row != first or stop.wait(_LOOK_S):
            raise SettingsWrong(
                "Another `glionode listen` or `glionode serve` receives with this database. Give each its own "
                "database, or stop the other one."
            )


def announce(data_dir: Path, node: RunningNode) -> None:
    """Write where the node listens, for other processes. Only the holder of the lock may call this."""
    # Not durable: the note is about a running process, and the next one writes its own.
    write_file(data_dir / _NOTE, json.dumps(asdict(node)), durable=False)


def running_node(data_dir: Path) -> RunningNode | None:
    """Return the node that runs on this data folder and is ready; None if there is none.

    Raises:
        SettingsWrong: the folder belongs to another user and cannot be read.
    """
    try:
        with (data_dir / _LOCK).open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        pass
    except PermissionError as exc:
        raise SettingsWrong(f"{data_dir} belongs to another user; run this as the user of the node.") from exc
    except OSError:
        return None
    else:
        return None
    try:
        note = json.loads((data_dir / _NOTE).read_text(encoding="utf-8"))
        # The node may be of a newer version, whose note says more.
        return RunningNode(**{each.name: note[each.name] for each in fields(RunningNode) if each.name in note})
    except (OSError, ValueError, TypeError):
        return None
