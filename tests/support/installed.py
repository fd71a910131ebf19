"""Find the programs and libraries of other packages; tests that need a missing one are skipped, and fail under CI."""

import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn

import pytest

PYTHON_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancPython.so")
DICOMWEB_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def find_program(name: str) -> str:
    """Return the path of a program, or skip the test."""
    # pynetdicom's wheel has a storescu and a storescp; DCMTK's are needed, so the environment's folder comes last.
    # The dcmqi wheel puts its programs there.
    environment = str(Path(sys.executable).parent)
    others = [folder for folder in os.get_exec_path() if folder != environment]
    path = shutil.which(name, path=os.pathsep.join([*others, "/usr/sbin", environment]))
    return path or skip_missing(f"program {name}")


def require_file(path: Path) -> Path:
    """Return a path if it exists, or skip the test."""
    return path if path.exists() else skip_missing(str(path))


def skip_missing(what: str) -> NoReturn:
    """Skip the test because something is not installed; fail it under CI."""
    message = f"{what} is missing; `make test` as root installs it"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)
