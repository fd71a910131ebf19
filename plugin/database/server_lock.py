"""Keep a second database server away from the files of one, also of one whose processes cannot be seen from here.

PostgreSQL itself goes by a process id in postmaster.pid, which means nothing in another container, and which another
process may have after a restart. The kernel releases this lock when the last process of the server has ended.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from plugin.errors import DatabaseUnavailable


@contextmanager
def server_lock(path: Path, wait_s: float) -> Iterator[int]:
    """Give the descriptor of a lock, which the processes that inherit it hold until the last of them has ended.

    Raises DatabaseUnavailable where others hold it for `wait_s` seconds.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as exc:
                if time.monotonic() > deadline:
                    raise DatabaseUnavailable(
                        f"The embedded database in {path.parent} cannot start: another database server still runs on "
                        "it, in another container perhaps. Stop that one."
                    ) from exc
                time.sleep(0.05)
        yield descriptor
    finally:
        os.close(descriptor)
