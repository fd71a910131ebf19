"""Run `glionode` in a process of its own, as a user does."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.programs import GLIONODE


@dataclass(frozen=True)
class CommandResult:
    """The exit status and the output of a command."""

    status: int
    out: str
    err: str


def glionode(*arguments: str | Path) -> CommandResult:
    """Run `glionode` without settings of this machine."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GLIONODE_")}
    result = subprocess.run(
        [*GLIONODE, *map(str, arguments)], capture_output=True, text=True, env=environment, timeout=280, check=False
    )
    return CommandResult(result.returncode, result.stdout, result.stderr)


@dataclass(frozen=True)
class Demonstration:
    """The result and the files of `glionode demo`."""

    finished: CommandResult
    out: Path

    @property
    def study(self) -> Path:
        """The phantom's DICOM files, a folder for each series."""
        return self.out / "phantom" / "dicom"
