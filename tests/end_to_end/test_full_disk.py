"""A disk that fills and is freed: nothing is lost, and nobody has to do anything but free it."""

import json

from tests.support.walks import run_walk


def test_a_disk_that_fills_and_is_freed() -> None:
    result = run_walk("walk_with_full_disk", timeout_s=200)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == {
        "received": ["0000"] * 3,
        "held": ["0000"] * 3,
        "below the floor": ["A700"] * 3,
        # It says why it does not receive; the database lives on what the floor leaves it.
        "said": [False, True, True, {"running": 1, "segmented": 1}],
        "waits because": "are free where results are written, and 64 MiB may be needed. "
        "Free some space; the jobs continue by themselves then.",
        "full": ["A700"] * 3,
        "freed": ["0000"] * 3,
        "at the PACS": True,
        "troubles": [],
    }
