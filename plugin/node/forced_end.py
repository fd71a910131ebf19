"""End the process in time after SIGTERM or SIGINT, whatever hangs in it.

Services stop by themselves in the first part of `shutdown.drain_s`. What does not (a database that does not answer, a
hosted plugin, a disk) is left behind at its end: what was acknowledged is on disk then, and a job runs again.
"""

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOG = logging.getLogger(__name__)

_LONGEST_RESERVE_S = 5.0
_LOG_WITHIN_S = 0.5
_EXIT_WITHIN_S = 1.0
"""What the interpreter needs to exit once all services have stopped."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_ROOT = Path(__file__).parents[2]


def graceful_s(drain_s: float) -> float:
    """Return how much of `drain_s` services may take; the rest is for killing what is left and for the database."""
    return drain_s - min(_LONGEST_RESERVE_S, drain_s / 2)


@contextmanager
def forced_end(drain_s: float) -> Iterator[None]:
    """End the process with status 1 if it still runs `drain_s` seconds after a signal that comes within the block.

    After the block, threads that keep the interpreter from exiting, such as one of a library that waits for a peer, are
    left behind a second later, with status 0. Without effect outside the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # A handler in Python waits for the main thread, which may hang; the byte that the interpreter writes does not.
    written, read = socket.socketpair()
    written.setblocking(False)
    before = signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
    stopped = threading.Event()
    threading.Thread(target=_watch, args=(read, drain_s, stopped), name="forced-end", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        written.close()
        stopped.set()


def _watch(read: socket.socket, drain_s: float, stopped: threading.Event) -> None:
    with read:
        while True:
            numbers = read.recv(64)
            if not numbers:
                return
            if any(number in numbers for number in _SIGNALS):
                break
    deadline = time.monotonic() + drain_s
    if stopped.wait(drain_s):
        time.sleep(min(_EXIT_WITHIN_S, max(0.0, deadline - time.monotonic())))
        os._exit(0)
    # In a thread: what hangs may hold the log, too.
    log = threading.Thread(target=_say, args=(drain_s,), daemon=True)
    log.start()
    log.join(_LOG_WITHIN_S)
    os._exit(1)


def _say(drain_s: float) -> None:
    _LOG.error(
        "ended by force: %g s after the signal (shutdown.drain_s) %s. What was acknowledged is kept, and the running "
        "job runs again after the next start.",
        drain_s,
        _what_runs(),
    )


def _what_runs() -> str:
    """Return where the main thread is in our own code."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(_ROOT / "plugin"):
            return f"{path.relative_to(_ROOT)}, line {frame.f_lineno}, had not returned"
        frame = frame.f_back
    return "the process had not ended"
