"""Run the work of a destination's thread: connect to the database, be the only one at it, and go on after failures."""

import logging
import threading
from collections.abc import Callable

import psycopg

from plugin.database.pool import Connection

_LOG = logging.getLogger(__name__)

_POLL_LOCK_EVERY_S = 0.5
_RECONNECT_AFTER_S = 1.0

Work = Callable[[Connection, threading.Event], None]
"""Returns when the event is set."""


def run_exclusively(url: str, task: str, destination: str, work: Work, stop: threading.Event) -> None:
    """Run `work` until `stop` is set, while no other process on any host does this task for the destination.

    Failures are logged, and `work` starts again with a new connection to the database at `url`.
    """
    while not stop.is_set():
        try:
            with psycopg.connect(url, autocommit=True) as connection:
                if _lock(connection, task, destination, stop):
                    work(connection, stop)
        except psycopg.Error as exc:
            _LOG.error("%s to %s lost the database (%s); connecting again", task, destination, type(exc).__name__)
        except Exception as exc:  # noqa: BLE001 - the outermost loop of this thread; rows stay due
            _LOG.error("%s to %s failed (%s); starting again", task, destination, type(exc).__name__)
        stop.wait(_RECONNECT_AFTER_S)


def _lock(connection: Connection, task: str, destination: str, stop: threading.Event) -> bool:
    """Wait for the lock, which the end of the connection releases; return False if `stop` is set before."""
    while not stop.is_set():
        row = connection.execute(
            "SELECT pg_try_advisory_lock(hashtext(%s), hashtext(%s))", (f"glionode-{task}", destination)
        ).fetchone()
        if row == (True,):
            return True
        stop.wait(_POLL_LOCK_EVERY_S)
    return False
