"""A plugin in the Orthanc Book's style does in the node what it does in a real Orthanc, with not a line changed."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from plugin_hosts import PYTHON_PLUGIN

HERE = Path(__file__).parent


def test_a_plugin_in_the_books_style_runs_in_both_hosts(program: Callable[[str], str], tmp_path: Path) -> None:
    if not Path(PYTHON_PLUGIN).exists():
        program("libOrthancPython.so")
    programs = [program("Orthanc"), PYTHON_PLUGIN, program("storescp"), program("storescu")]
    walk = [str(HERE / "walk_with_book_plugin.py"), str(tmp_path / "walk"), str(HERE / "book_style_plugin.py")]
    result = subprocess.run(
        [sys.executable, *walk, *programs], capture_output=True, text=True, check=False, timeout=250
    )
    if "no network namespace may be made here" in result.stderr:
        pytest.skip("no network namespace may be made here")
    assert result.returncode == 0, result.stderr
    walked = json.loads(result.stdout)
    for each in walked.values():  # each host writes file meta information of its own
        assert each["state"].pop("bytes") > 5 * 1500
        del each["afterwards"]["bytes"]
    real, own = walked["real"], walked["own"]
    assert own == real
    assert own["state"]["count"] == len(own["received"]) == 5
    assert sorted(own["state"]["complete"].values()) == ["1", "1", "2"]
    assert {"FLAIR": 1, "T1CE": 2} in own["summaries"].values()
    assert [len(found) for found in own["found"].values()] == [2, 1, 1, 0], "the third patient is kept out"
    assert own["kept_out"] == [403, 403]
    assert len(own["afterwards"]["complete"]) == 2
    log = (tmp_path / "walk" / "own" / "node.log").read_text()
    assert "Kept out: '/book/state'" in log
    assert "Traceback" not in log
    assert "Trial^" not in log
