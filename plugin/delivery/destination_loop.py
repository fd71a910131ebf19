"""Run the work of a destination's thread: connect to the database, be the only one at it, and go on after failures."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

from plugin.database.lease import Lease, acquire, renewing
from plugin.database.pool import Connection
from plugin.logs import Outage

_LOG = logging.getLogger(__name__)

_POLL_LEASE_EVERY_S = 0.5
_RECONNECT_AFTER_S = 1.0
_WORKS_AFTER_S = 5.0

Work = Callable[[Connection, threading.Event], None]
"""Returns when the event is set, and asks often whether it is."""


def lease_name(task: str, destination: str) -> str:
    """Return the name of the lease for a task and a destination."""
    return f"{task} {destination}"


def run_exclusively(url: str, task: str, destination: str, work: Work, stop: threading.Event) -> None:
    """Run `work` until `stop` is set, while no other process on any host does this task for the destination.

    Failures are logged, and `work` starts again with a new connection to the database at `url`. Where the lease is over
    in the middle of it, the event that `work` got is set, and its associations break off.
    """
    outage = Outage(_LOG, f"{task} to {destination}")
    while not stop.is_set():
        try:
            with psycopg.connect(url, autocommit=True) as connection:
                lease = _wait_for_lease(connection, task, destination, stop)
                if lease is not None:
                    with renewing(url, lease), _ends_after(outage, _WORKS_AFTER_S):
                        work(connection, lease)
        except psycopg.Error as exc:
            outage.failed(f"it lost the database ({type(exc).__name__})", level=logging.ERROR)
        except Exception as exc:  # noqa: BLE001 - the outermost loop of this thread; rows stay due
            outage.failed(f"it failed ({type(exc).__name__})", level=logging.ERROR)
        stop.wait(_RECONNECT_AFTER_S)


@contextmanager
def _ends_after(outage: Outage, seconds: float) -> Iterator[None]:
    """Note that it works when the block has run for so long; one that fails at once each time has not worked."""
    timer = threading.Timer(seconds, outage.works)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _wait_for_lease(connection: Connection, task: str, destination: str, stop: threading.Event) -> Lease | None:
    """Wait for the lease; return None if `stop` is set before."""
    while not stop.is_set():
        # Version 0.1 had a lock in place of the lease. This one is shared, and excludes nobody but such a process.
        row = connection.execute(
            "SELECT pg_try_advisory_lock_shared(hashtext(%s), hashtext(%s))", (f"glionode-{task}", destination)
        ).fetchone()
        if row == (True,):
            lease = acquire(connection, lease_name(task, destination), stop)
            if lease is not None:
                return lease
            connection.execute(
                "SELECT pg_advisory_unlock_shared(hashtext(%s), hashtext(%s))", (f"glionode-{task}", destination)
            )
        stop.wait(_POLL_LEASE_EVERY_S)
    return None
