"""Run `glionode` as a person would."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.programs import GLIONODE


@dataclass(frozen=True)
class Finished:
    """A run of the command line."""

    status: int
    out: str
    err: str


def glionode(*arguments: str | Path) -> Finished:
    """Run `glionode` as a person would, without settings of this machine."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GLIONODE_")}
    result = subprocess.run(
        [*GLIONODE, *map(str, arguments)], capture_output=True, text=True, env=environment, timeout=280, check=False
    )
    return Finished(result.returncode, result.stdout, result.stderr)


@dataclass(frozen=True)
class Demonstration:
    """What `glionode demo` did and left."""

    finished: Finished
    out: Path

    @property
    def study(self) -> Path:
        """The phantom's DICOM files, a folder for each series."""
        return self.out / "phantom" / "dicom"
