"""Test that a script in the Orthanc Book's style does the same in the node as in a real Orthanc, unchanged."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.support.installed import OrthancInstallation
from tests.support.paths import END_TO_END
from tests.support.walks import run_walk


def test_a_script_in_the_books_style_does_the_same_in_both_hosts(
    program: Callable[[str], str], orthanc: OrthancInstallation, tmp_path: Path
) -> None:
    programs = [orthanc.program, orthanc.python_plugin, program("storescp"), program("storescu")]
    arguments = [tmp_path / "walk", END_TO_END / "book_style_plugin.py", *programs]
    result = run_walk("walk_with_book_plugin", *arguments, timeout_s=250)
    assert result.returncode == 0, result.stderr
    observed = json.loads(result.stdout)
    for each in observed.values():  # each host writes file meta information of its own
        assert each["state"].pop("bytes") > 5 * 1500
        del each["afterwards"]["bytes"]
    real, own = observed["real"], observed["own"]
    assert own == real
    assert own["state"]["count"] == len(own["received"]) == 5
    assert sorted(own["state"]["complete"].values()) == ["1", "1", "2"]
    assert {"FLAIR": 1, "T1CE": 2} in own["summaries"].values()
    assert [len(found) for found in own["found"].values()] == [2, 1, 1, 0], "the third patient is left out"
    assert own["filtered"] == [403, 403]
    assert len(own["afterwards"]["complete"]) == 2
    log = (tmp_path / "walk" / "own" / "node.log").read_text()
    assert "Refused: '/book/state'" in log
    assert "Traceback" not in log
    assert "Trial^" not in log
