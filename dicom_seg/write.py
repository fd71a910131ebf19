"""Objects to disk, whole or not at all."""

import os
import tempfile
from io import BytesIO
from pathlib import Path

from pydicom import dcmwrite
from pydicom.dataset import Dataset

from pipeline.errors import OutputRefused


def write_dicom(dataset: Dataset, path: Path) -> None:
    """Write `dataset` as a DICOM file: to a hidden file beside `path`, flushed to disk, then renamed onto it.

    Nothing half-written is ever seen under `path`. Raises OutputRefused where the disk is full or the folder is not
    writable; the hidden file is gone then.
    """
    # Encoded in memory first: pydicom wraps an OSError of the disk in a text with a traceback.
    content = BytesIO()
    dcmwrite(content, dataset, enforce_file_format=True)
    hidden: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
            hidden = Path(file.name)
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        hidden.chmod(0o644)
        hidden.replace(path)
        hidden = None
        _flush_folder(path.parent)
    except OSError as exc:
        raise OutputRefused(
            f"{path} cannot be written: {exc.strerror or exc}. Free space or make the folder writable, then try again."
        ) from exc
    finally:
        if hidden is not None:
            hidden.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    # The rename itself survives a power cut only once the folder is on disk.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
