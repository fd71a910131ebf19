"""Set up logging as text or as JSON lines.

Our own messages contain UIDs and counts only. Libraries log warnings at most.
"""

import json
import logging
import sys
import traceback
import warnings
from datetime import UTC, datetime
from typing import Literal

LogFormat = Literal["text", "json"]

_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_EXTRAS = ("study_instance_uid", "job", "destination")
"""Attributes given as `extra` that become JSON fields. Others are dropped: libraries add attributes of their own."""
_LIBRARIES = ("highdicom", "procrastinate", "pynetdicom", "uvicorn", "asyncio", "httpx", "httpx2", "httpcore")
"""At INFO they log several lines for each image, and nothing guarantees that these are free of patient data."""
_QUOTING = ("pydicom", "pynetdicom.dul", "pynetdicom.utils")
"""They quote the values of damaged elements and invalid AE titles, which may contain patient data."""


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


def set_up_logging(level: int, log_format: LogFormat = "text") -> None:
    """Log to standard error from `level` upwards, and from WARNING upwards for libraries."""
    root = logging.getLogger()
    if not root.handlers:
        logging.basicConfig(stream=sys.stderr)
    root.setLevel(level)
    formatter = JsonFormatter() if log_format == "json" else logging.Formatter(_TEXT)
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
