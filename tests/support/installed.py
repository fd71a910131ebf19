"""Find the programs and libraries of other packages; tests that need a missing one are skipped, and fail under CI."""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

from tests.support.paths import ROOT

_PLUGINS = Path("usr/share/orthanc/plugins")
CURRENT_ORTHANC = ROOT / ".orthanc-current"
"""Where scripts/install-current-orthanc puts a newer Orthanc than the distribution has."""


@dataclass(frozen=True, slots=True)
class OrthancInstallation:
    """An installed Orthanc: its program and its plugins."""

    program: str
    python_plugin: Path
    dicomweb_plugin: Path
    current: bool


def find_orthanc(current: bool = False) -> OrthancInstallation:
    """Return the distribution's Orthanc, or the current one beside it, or skip the test."""
    if current and not (CURRENT_ORTHANC / "usr").exists():
        pytest.skip("a current Orthanc is missing; scripts/install-current-orthanc installs it")
    plugins = (CURRENT_ORTHANC if current else Path("/")) / _PLUGINS
    return OrthancInstallation(
        str(ROOT / "scripts" / "current-orthanc") if current else find_program("Orthanc"),
        require_file(plugins / "libOrthancPython.so"),
        require_file(plugins / "libOrthancDicomWeb.so"),
        current,
    )


def orthancs_to_test() -> list[str]:
    """Return which installations of Orthanc the tests run in; under CI the current one only where it is installed."""
    under_ci = os.environ.get("CI") == "true"
    return ["distribution"] if under_ci and not CURRENT_ORTHANC.exists() else ["distribution", "current"]


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
