"""Test that nothing is lost when the disk is full, and that the node continues by itself once it is freed."""

import json

from tests.support.walks import run_walk


def test_the_node_refuses_images_on_a_full_disk_and_continues_once_it_is_freed() -> None:
    result = run_walk("walk_with_full_disk", timeout_s=200)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == {
        "received": ["0000"] * 3,
        "held": ["0000"] * 3,
        "below the minimum": ["A700"] * 3,
        # The status shows that it does not receive; the database still writes to what the minimum leaves free.
        "status": [False, True, True, {"running": 1, "segmented": 1}],
        "trouble": "are free where results are written, and 64 MiB may be needed. "
        "Free some space; the jobs continue by themselves then.",
        "full": ["A700"] * 3,
        "freed": ["0000"] * 3,
        "at the PACS": True,
        "troubles": [],
    }
