"""A scan in a process of its own gives what a scan here gives, and its errors are raised here."""

import os
import subprocess
import sys
from pathlib import Path

from pydicom.data import get_testdata_file

from tests.support.paths import ROOT

_SCAN = """
import sys
from pathlib import Path
from pipeline.scan import scan
from plugin.commands import early_scan
here = []
early_scan.scan = lambda paths: here.append(paths) or scan(paths)
wait = early_scan.begin_scan(Path(sys.argv[1]))
print("torch" in sys.modules)
found = wait()
print(len(here), len(found.studies), found == scan([Path(sys.argv[1])]))
"""


def _scanned(path: Path) -> subprocess.CompletedProcess[str]:
    """Scan in a new process, which has not loaded PyTorch, as pytest's may have."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", _SCAN, str(path)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)


def test_another_process_scans_and_gives_the_same(tmp_path: Path) -> None:
    (tmp_path / "image.dcm").write_bytes(Path(str(get_testdata_file("MR_small.dcm"))).read_bytes())
    (tmp_path / "other.txt").write_text("no image")
    done = _scanned(tmp_path)
    assert done.stdout.split() == ["False", "0", "1", "True"], done.stderr


def test_what_the_scan_raises_is_raised_here(tmp_path: Path) -> None:
    done = _scanned(tmp_path / "nothing")
    assert done.stdout.split() == ["False"]
    # Once, as the other process says nothing.
    errors = [line for line in done.stderr.splitlines() if line.startswith("pipeline.errors.StudyUnreadable")]
    assert len(errors) == 1
    assert "does not exist" in errors[0]
