"""What is logged, and how. Our own messages name UIDs and counts; libraries are kept to warnings."""

import logging
import sys
import warnings

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_LIBRARIES = ("highdicom", "procrastinate", "pynetdicom")
"""At INFO they say several lines an image, and nobody promises that these are free of patients' text."""
_QUOTING = ("pydicom", "pynetdicom.dul", "pynetdicom.utils")
"""They quote the value of a damaged element, or of an AE title that is none, and that may be anything."""


def set_up_logging(level: int) -> None:
    """Log to standard error from `level` on; libraries from WARNING on at least."""
    logging.basicConfig(level=level, stream=sys.stderr, format=_FORMAT)
    logging.getLogger().setLevel(level)
    quiet_libraries(level)
    warnings.simplefilter("ignore", UserWarning)


def quiet_libraries(level: int) -> None:
    """Let libraries say warnings at most, and nothing where they would quote what somebody sent."""
    for library in _LIBRARIES:
        logging.getLogger(library).setLevel(max(level, logging.WARNING))
    for library in _QUOTING:
        logging.getLogger(library).setLevel(logging.CRITICAL)
