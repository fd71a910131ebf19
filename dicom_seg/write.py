"""Write encoded objects as DICOM files."""

import warnings
from io import BytesIO
from pathlib import Path

from pydicom import dcmwrite
from pydicom.dataset import Dataset

from pipeline.atomic_write import write_file
from pipeline.errors import OutputRefused


def as_bytes(dataset: Dataset) -> bytes:
    """Return the DICOM file of a data set."""
    content = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of a character set that it does not know, with its name
        dcmwrite(content, dataset, enforce_file_format=True)
    return content.getvalue()


def write_dicom(dataset: Dataset | bytes, path: Path) -> None:
    """Write a data set, or the bytes of a DICOM file, as a DICOM file, whole or not at all.

    Raises OutputRefused where the disk is full or the folder is not writable; a file that was there stays as it was.
    """
    # Encoded in memory first: pydicom wraps an OSError of the disk in a text with a traceback.
    content = dataset if isinstance(dataset, bytes) else as_bytes(dataset)
    try:
        write_file(path, content)
    except OSError as exc:
        raise OutputRefused(
            f"{path} cannot be written: {exc.strerror or exc}. Free space or make the folder writable, then try again."
        ) from exc
