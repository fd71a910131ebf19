"""Read the database for /health and /metrics, in a thread of its own: no request waits for one that does not answer.

A database may hang, as on a host that vanished or a disk that stands still, and then a query returns after many
seconds or never. Only the thread waits for it, and whoever asks meanwhile is told at once.
"""

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

import psycopg

from plugin.database.pool import Connection
from plugin.errors import DatabaseUnavailable

_T = TypeVar("_T")

_PATIENCE_S = 2.0


class DatabaseProbe:
    """Asks the database at `url`. Thread-safe."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._questions: SimpleQueue[tuple[Callable[[Connection], Any], Future[Any]] | None] = SimpleQueue()
        self._connection: Connection | None = None
        self._busy_since = math.inf
        self._answered_at = time.monotonic()
        threading.Thread(target=self._run, name="database probe", daemon=True).start()

    def read(self, what: Callable[[Connection], _T]) -> _T:
        """Return what a function reads in a transaction. Raises DatabaseUnavailable where that fails or takes long."""
        if time.monotonic() - self._busy_since > _PATIENCE_S:
            raise DatabaseUnavailable(self._says("does not answer"))
        future: Future[_T] = Future()
        self._questions.put((what, future))
        try:
            return future.result(_PATIENCE_S)
        except TimeoutError as exc:
            future.cancel()
            raise DatabaseUnavailable(self._says("does not answer")) from exc
        except psycopg.Error as exc:
            raise DatabaseUnavailable(self._says("cannot be reached or refuses what is asked")) from exc

    @property
    def seconds_since_answer(self) -> float:
        """Seconds since the database last answered; since the probe was made, if it never did."""
        return time.monotonic() - self._answered_at

    def close(self) -> None:
        """End the session, once the question that is being asked has its answer."""
        self._questions.put(None)

    def _says(self, what: str) -> str:
        return f"The database {what}. It last answered {self.seconds_since_answer:.0f} s ago."

    def _run(self) -> None:
        while (question := self._questions.get()) is not None:
            what, future = question
            if not future.set_running_or_notify_cancel():
                continue
            self._busy_since = time.monotonic()
            try:
                answer = self._ask(what)
            except BaseException as exc:  # noqa: BLE001 - it is raised where the question was asked
                self._disconnect()
                future.set_exception(exc)
            else:
                self._answered_at = time.monotonic()
                future.set_result(answer)
            finally:
                self._busy_since = math.inf
        self._disconnect()

    def _ask(self, what: Callable[[Connection], _T]) -> _T:
        if self._connection is not None:
            try:
                with self._connection.transaction():
                    return what(self._connection)
            except psycopg.OperationalError:  # the server may have been started anew since
                self._disconnect()
        self._connection = psycopg.connect(self._url, autocommit=True)
        with self._connection.transaction():
            return what(self._connection)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
