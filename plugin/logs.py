"""What is logged, and how. Our own messages name UIDs and counts; libraries are kept to warnings."""

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
"""What a message may be about, given as `extra`. Others are left out: libraries put there what they like."""
_LIBRARIES = ("highdicom", "procrastinate", "pynetdicom", "uvicorn", "asyncio", "httpx", "httpx2", "httpcore")
"""At INFO they say several lines an image, and nobody promises that these are free of patients' text."""
_QUOTING = ("pydicom", "pynetdicom.dul", "pynetdicom.utils")
"""They quote the value of a damaged element, or of an AE title that is none, and that may be anything."""


class JsonFormatter(logging.Formatter):
    """An object a line: time (ISO 8601, UTC), level, logger, message, and what the message is about.

    Of an exception kind and place are told and not its text, which may quote a header.
    """

    def format(self, record: logging.LogRecord) -> str:
        """A line."""
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
    """Log to standard error from `level` on; libraries from WARNING on at least."""
    root = logging.getLogger()
    if not root.handlers:
        logging.basicConfig(stream=sys.stderr)
    root.setLevel(level)
    formatter = JsonFormatter() if log_format == "json" else logging.Formatter(_TEXT)
    for handler in root.handlers:
        if type(handler) is logging.StreamHandler:  # not those of a test runner
            handler.setFormatter(formatter)
    quiet_libraries(level)
    warnings.simplefilter("ignore", UserWarning)


def quiet_libraries(level: int) -> None:
    """Let libraries say warnings at most, and nothing where they would quote what somebody sent."""
    for library in _LIBRARIES:
        logging.getLogger(library).setLevel(max(level, logging.WARNING))
    for library in _QUOTING:
        logging.getLogger(library).setLevel(logging.CRITICAL)
