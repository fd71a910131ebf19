"""Whatever is killed while studies come, each result is at the PACS in the end, and nothing else. The short walk."""

import json
import subprocess
import sys
from pathlib import Path


def test_nothing_is_lost_whatever_is_killed(tmp_path: Path) -> None:
    walk = Path(__file__).with_name("walk_with_crashes.py")
    command = [sys.executable, str(walk), str(tmp_path / "walk"), "--studies", "20", "--kills", "8", "--every", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.stdout, done.stderr[-2000:]
    table = json.loads(done.stdout.splitlines()[-1])
    assert sum(table["kills"].values()) == 8
    assert table["images_acknowledged"] == 60
    assert table["results_at_pacs"] == table["results_expected"] == 40
    wrong = {
        name: table[name] for name in ("lost", "altered", "duplicated", "stuck_jobs", "parked_jobs") if table[name]
    }
    assert not wrong, table
    assert done.returncode == 0
