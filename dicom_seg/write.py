"""Write encoded objects as DICOM files."""

from io import BytesIO
from pathlib import Path

from pydicom import dcmwrite
from pydicom.dataset import Dataset

from pipeline.atomic_write import write_file
from pipeline.errors import OutputRefused


def write_dicom(dataset: Dataset, path: Path) -> None:
    """Write `dataset` as a DICOM file, whole or not at all.

    Raises OutputRefused where the disk is full or the folder is not writable; a file that was there stays as it was.
    """
    # Encoded in memory first: pydicom wraps an OSError of the disk in a text with a traceback.
    content = BytesIO()
    dcmwrite(content, dataset, enforce_file_format=True)
    try:
        write_file(path, content.getbuffer())
    except OSError as exc:
        raise OutputRefused(
            f"{path} cannot be written: {exc.strerror or exc}. Free space or make the folder writable, then try again."
        ) from exc
