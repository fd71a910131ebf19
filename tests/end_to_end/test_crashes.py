"""Test that every result reaches the PACS although processes are killed while studies arrive (a short walk)."""

import json
from pathlib import Path

from tests.support.walks import run_walk


def test_nothing_is_lost_when_processes_are_killed(tmp_path: Path) -> None:
    options = ("--studies", "20", "--kills", "8", "--every", "2")
    done = run_walk("walk_with_crashes", tmp_path / "walk", *options, timeout_s=280)
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
