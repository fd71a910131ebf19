"""Set up logging as text or as JSON lines.

Our own messages contain UIDs and counts only. Libraries log warnings at most.
"""

import json
import logging
import math
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Literal

LogFormat = Literal["text", "json"]

_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_EXTRAS = ("study_instance_uid", "job", "destination")
"""Attributes given as `extra` that become JSON fields. Others are dropped: libraries add attributes of their own."""
_LIBRARIES = ("highdicom", "procrastinate", "pynetdicom", "uvicorn", "asyncio", "httpx", "httpx2", "httpcore")
"""At INFO they log several lines for each image, and nothing guarantees that these are free of patient data."""
_QUOTING = ("pydicom", "pynetdicom.dul", "pynetdicom.utils")
"""They quote the values of damaged elements and invalid AE titles, which may contain patient data."""
_MOST_KINDS = 20
"""Lines about one outage, at most: reasons may differ from try to try."""
_LAST_LINES_BYTES = 1 << 20
_REPEATING = ("pynetdicom.transport", "pynetdicom.association", "pynetdicom.acse")
"""They log two lines for each try to reach a peer, about which a line of ours says once that it cannot be reached."""
_REFUSED_AGAIN_AFTER_S = 600.0
_MOST_REFUSED = 1000
"""Peers and reasons that are remembered."""


class JsonFormatter(logging.Formatter):
    """Format a record as one JSON object: time (ISO 8601, UTC), level, logger, message and the known extras.

    An exception is given by type and traceback, without its message, which may quote a header.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= {name: str(getattr(record, name)) for name in _EXTRAS if hasattr(record, name)}
        if record.exc_info and record.exc_info[0] is not None:
            entry["exception"] = record.exc_info[0].__name__
            entry["traceback"] = "".join(traceback.format_tb(record.exc_info[2]))
        return json.dumps(entry)


class TextFormatter(logging.Formatter):
    """Format a record as a line of text; an exception by traceback and type, as in JSON."""

    def __init__(self) -> None:
        super().__init__(_TEXT)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging calls it so
        """Return the traceback of an exception without its message."""
        kind, _, trace = ei
        return "".join(traceback.format_tb(trace)) + (kind.__name__ if kind is not None else "")


class _QuietFile(RotatingFileHandler):
    """A log file that is left out where it cannot be written, on a full disk for one."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging calls it so
        """Do nothing: standard error has the line."""


def log_folder(data_dir: Path) -> Path:
    """Return the folder of the last log lines."""
    return data_dir / "logs"


@contextmanager
def keeping_last_lines(data_dir: Path, name: str) -> Iterator[None]:
    """Keep the last lines of this process's log in a file of the data folder, for `glionode diagnostics`.

    What a hosted plugin logs is its own text, and is left out.
    """
    folder = log_folder(data_dir)
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        handler = _QuietFile(folder / f"{name}.log", maxBytes=_LAST_LINES_BYTES, backupCount=1, delay=True)
    except OSError:
        yield
        return
    handler.setFormatter(TextFormatter())
    handler.addFilter(lambda record: not record.name.startswith("plugin.orthanc_api"))
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()


def set_up_logging(level: int, log_format: LogFormat = "text") -> None:
    """Log to standard error from `level` upwards, and from WARNING upwards for libraries."""
    root = logging.getLogger()
    if not root.handlers:
        logging.basicConfig(stream=sys.stderr)
    root.setLevel(level)
    formatter = JsonFormatter() if log_format == "json" else TextFormatter()
    for handler in root.handlers:
        if type(handler) is logging.StreamHandler:  # not those of a test runner
            handler.setFormatter(formatter)
    limit_library_logging(level)
    warnings.simplefilter("ignore", UserWarning)


def limit_library_logging(level: int) -> None:
    """Limit libraries to warnings, and silence those that quote values from received data."""
    for library in _LIBRARIES:
        logging.getLogger(library).setLevel(max(level, logging.WARNING))
    for library in _QUOTING:
        logging.getLogger(library).setLevel(logging.CRITICAL)
    for library in _REPEATING:
        logger = logging.getLogger(library)
        if not any(isinstance(each, RepeatedLines) for each in logger.filters):
            logger.addFilter(RepeatedLines())


class RepeatedLines(logging.Filter):
    """Lets through a text of a library once, and again after ten minutes at the earliest. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._logged: dict[tuple[int, str], float] = {}
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is to be logged."""
        line, now = (record.levelno, record.getMessage()), self._clock()
        with self._lock:
            if now - self._logged.get(line, -math.inf) < _REFUSED_AGAIN_AFTER_S:
                return False
            if line not in self._logged and len(self._logged) >= _MOST_REFUSED:
                del self._logged[next(iter(self._logged))]
            self._logged[line] = now
        return True


class Outage:
    """The log of something that fails, is tried again and works again: a line for each change, none for each try.

    Thread-safe.
    """

    def __init__(self, logger: logging.Logger, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`what` is what fails, as the lines begin: "marking studies in Orthanc"."""
        self._logger = logger
        self._what = what
        self._clock = clock
        self._lock = threading.Lock()
        self._since = 0.0
        self._tries = 0
        self._kinds: set[str] = set()

    @property
    def lasts(self) -> bool:
        """Whether the latest try failed."""
        return self._tries > 0

    def failed(self, reason: str, kind: str = "", level: int = logging.WARNING) -> None:
        """Note a failed try, and log it if it is the first one, or the first of its kind since it last worked.

        `kind` tells reasons apart whose texts differ from try to try; without one, each text is a kind of its own.
        """
        with self._lock:
            first, new = self._tries == 0, (kind or reason) not in self._kinds
            self._tries += 1
            if first:
                self._since = self._clock()
            if new and len(self._kinds) < _MOST_KINDS:
                self._kinds.add(kind or reason)
            elif new:
                return
        if first or new:
            self._logger.log(level, "%s: %s; it is tried again, with no line for each try", self._what, reason)

    def works(self) -> None:
        """Note that it works, and log that if it did not before."""
        if not self._tries:
            return
        with self._lock:
            tries, since = self._tries, self._since
            self._tries = 0
            self._kinds.clear()
        if tries:
            text = "%s: works again, after %d failed tries in %.0f s"
            self._logger.warning(text, self._what, tries, self._clock() - since)


@dataclass(slots=True)
class _Refused:
    logged: float
    """Monotonic, seconds."""
    since: int = 0
    """How often since that line."""


class RepeatedRefusals:
    """The log of peers that are refused: a line when one begins to be, and another after ten minutes at the earliest.

    Thread-safe.
    """

    def __init__(self, logger: logging.Logger, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`what` is how the lines begin: "refused the connection from"."""
        self._logger = logger
        self._what = what
        self._clock = clock
        self._refused: dict[tuple[str, str], _Refused] = {}
        self._lock = threading.Lock()

    def refused(self, peer: str, reason: str) -> None:
        """Note that something of `peer` was refused; `reason` is a clause without the peer's own text."""
        now = self._clock()
        with self._lock:
            known = self._refused.get((peer, reason))
            if known is not None and now - known.logged < _REFUSED_AGAIN_AFTER_S:
                known.since += 1
                return
            if known is None and len(self._refused) >= _MOST_REFUSED:
                del self._refused[next(iter(self._refused))]
            self._refused[peer, reason] = _Refused(now)
        again = f" ({known.since} more since the last line)" if known is not None and known.since else ""
        self._logger.warning("%s %s: %s%s", self._what, peer or "an unknown address", reason, again)
