"""Scan headers in a process of their own while this one loads PyTorch, which takes longer."""

import os
import pickle
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.scan import scan

if TYPE_CHECKING:
    from pipeline.study import Scan


def begin_scan(source: Path) -> "Callable[[], Scan]":
    """Begin to scan a file or folder, and return a function that waits for the result, as `pipeline.scan.scan` has it.

    The function raises what that raises. Where the process has threads, which a fork does not copy, or PyTorch is
    loaded already, nothing is begun: the function scans.
    """
    if "torch" in sys.modules or threading.active_count() > 1:
        return lambda: scan([source])
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read_end)
            with os.fdopen(write_end, "wb") as pipe:
                pipe.write(pickle.dumps(scan([source])))
        finally:
            os._exit(0)  # without the parent's handlers, and without a word: the parent tells what is wrong
    os.close(write_end)
    return lambda: _received(read_end, child, source)


def _received(read_end: int, child: int, source: Path) -> "Scan":
    with os.fdopen(read_end, "rb") as pipe:
        content = pipe.read()
    os.waitpid(child, 0)
    with suppress(EOFError, pickle.UnpicklingError):
        found: Scan = pickle.loads(content)
        return found
    return scan([source])  # it raised, or was ended: the error is wanted here
