"""Run a script of tests/end_to_end in a process of its own, which gives it a network of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT


def run_walk(name: str, *arguments: str | Path, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run `python -m tests.end_to_end.NAME ARGUMENTS` and return what it printed and its exit status.

    The test is skipped where the system allows no network or mount namespace.
    """
    command = [sys.executable, "-m", f"tests.end_to_end.{name}", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=timeout_s)
    for kind in ("network", "mount"):
        if f"no {kind} namespace may be made here" in done.stderr:
            pytest.skip(f"no {kind} namespace may be made here")
    return done
