"""Test that the power cuts of walk_with_power_cuts lose what was not synced, and nothing else."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.power_cut import PowerCut

WRITER = """
import os, sys
from pathlib import Path

root = Path(sys.argv[1])

def sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)

(root / "changed").write_text("new, and longer than before")
for name in ("whole", "without its name", "without its content"):
    (root / name).write_text(name)
sync(root / "whole")
(root / "folder" / "lost").mkdir(parents=True)
os.link(root / "whole", root / "folder" / "second name")
sync(root / "folder")
sync(root)
(root / "folder" / "later").touch()
os.utime(root / "folder", ns=(7, 7))
sync(root / "folder")
(root / "without its name").rename(root / "renamed")
sync(root / "renamed")
(root / "named").mkdir()
(root / "named" / "kept").write_text("kept")
sync(root / "named" / "kept")
print("written", flush=True)
sys.stdin.readline()
sync(root / "changed")
print("synced without power", flush=True)
"""


def test_only_what_was_synced_is_left(
    program: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program("gcc")
    for name in ("ROOT", "KEPT", "NAMED"):
        monkeypatch.setenv(f"POWER_CUT_{name}", "")
    monkeypatch.setenv("LD_PRELOAD", "")
    root, work = tmp_path / "root", tmp_path / "work"
    for folder in (root, work):
        folder.mkdir()
    (root / "changed").write_text("before")
    power = PowerCut(root, root / "named", work)
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        power.cut()
        process.stdin.write("\n")
        process.stdin.flush()
        with pytest.raises(subprocess.TimeoutExpired):  # it stands still, as it has no power
            process.wait(0.3)
        process.kill()
        assert process.stdout.read() == ""
    power.restore()
    left = {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}
    assert left == {
        "changed": "before",
        "whole": "whole",
        "without its name": "without its name",
        "without its content": "",
        "folder/second name": "whole",
        "folder/later": "",
    }
    assert (root / "whole").samefile(root / "folder" / "second name")
    assert (root / "folder").stat().st_mtime_ns == 7, "a sync keeps a folder's own time, too"
    assert not (root / "named").exists(), "its name was not synced"
    assert (root / "folder" / "lost").is_dir(), "its name was"
