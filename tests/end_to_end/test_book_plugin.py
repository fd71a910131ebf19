"""A plugin in the Orthanc Book's style does in the node what it does in a real Orthanc, with not a line changed."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.support.paths import END_TO_END
from tests.support.plugin_hosts import PYTHON_PLUGIN
from tests.support.walks import run_walk


def test_a_plugin_in_the_books_style_runs_in_both_hosts(program: Callable[[str], str], tmp_path: Path) -> None:
    if not Path(PYTHON_PLUGIN).exists():
        program("libOrthancPython.so")
    programs = [program("Orthanc"), PYTHON_PLUGIN, program("storescp"), program("storescu")]
    arguments = [tmp_path / "walk", END_TO_END / "book_style_plugin.py", *programs]
    result = run_walk("walk_with_book_plugin", *arguments, timeout_s=250)
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
    assert "AddResult out: '/book/state'" in log
    assert "Traceback" not in log
    assert "Trial^" not in log
