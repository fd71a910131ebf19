"""The log of the embedded database server: bounded, and readable for its user alone."""

import logging
import os
import shutil
from pathlib import Path
from typing import BinaryIO

_LOG = logging.getLogger(__name__)

_LARGEST_LOG_BYTES = 8 << 20


def open_log(log: Path) -> BinaryIO:
    """Open the log for the server to write to its end."""
    return os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "ab")


def bound_log(log: Path) -> None:
    """Move the lines of a log that is too long to log.1. The server goes on: it writes to the end of the file."""
    try:
        if log.stat().st_size <= _LARGEST_LOG_BYTES:
            return
        earlier = log.with_name("log.1")
        try:
            with log.open("rb") as lines, earlier.open("wb") as copy:
                earlier.chmod(0o600)
                lines.seek(-_LARGEST_LOG_BYTES, os.SEEK_END)
                shutil.copyfileobj(lines, copy)
        finally:  # on a full disk the lines are lost, and the disk has room
            os.truncate(log, 0)
    except FileNotFoundError:
        return
    except OSError as exc:
        _LOG.warning("the lines of %s could not be kept (%s)", log, exc.strerror)
