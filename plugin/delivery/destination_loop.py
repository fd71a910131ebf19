"""What a thread for one destination does around its work: find the database, wait for its turn, survive."""

import logging
import threading
from collections.abc import Callable
from typing import Any

import psycopg

_LOG = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.5
_AGAIN_AFTER_S = 1.0

Work = Callable[[psycopg.Connection[Any], threading.Event], None]
"""Returns when the event is set."""


def run_in_turn(url: str, what: str, destination: str, work: Work, stop: threading.Event) -> None:
    """Work until `stop`, for as long as nobody else on whatever host does this for the destination.

    What goes wrong is logged, and begun anew with another connection.
    """
    while not stop.is_set():
        try:
            with psycopg.connect(url, autocommit=True) as connection:
                if _has_turn(connection, what, destination, stop):
                    work(connection, stop)
        except psycopg.Error as exc:
            _LOG.error("%s to %s lost the database (%s)", what, destination, type(exc).__name__)
        except Exception as exc:  # noqa: BLE001 - the outermost loop of this thread; rows stay due
            _LOG.error("%s to %s failed (%s)", what, destination, type(exc).__name__)
        stop.wait(_AGAIN_AFTER_S)


def _has_turn(connection: psycopg.Connection[Any], what: str, destination: str, stop: threading.Event) -> bool:
    """Wait for it; it ends with the connection. False where `stop` came before."""
    while not stop.is_set():
        row = connection.execute(
            "SELECT pg_try_advisory_lock(hashtext(%s), hashtext(%s))", (f"glionode-{what}", destination)
        ).fetchone()
        if row and row[0]:
            return True
        stop.wait(_LOOK_EVERY_S)
    return False
