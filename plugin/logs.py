"""What is logged, and how. Our own messages name UIDs and counts; libraries are kept to warnings."""

import logging
import sys
import warnings

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_LIBRARIES = ("highdicom", "procrastinate", "pynetdicom")
"""At INFO they say several lines an image, and nobody promises that these are free of patients' text."""


def set_up_logging(level: int) -> None:
    """Log to standard error from `level` on; libraries from WARNING on at least."""
    logging.basicConfig(level=level, stream=sys.stderr, format=_FORMAT)
    logging.getLogger().setLevel(level)
    for library in _LIBRARIES:
        logging.getLogger(library).setLevel(max(level, logging.WARNING))
    # pydicom quotes the value of a damaged element in its warnings, and that may be a patient's name.
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore", UserWarning)
