"""A real Orthanc with the plugin, the node beside it and a second Orthanc: nothing is lost, whoever is down."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_orthanc_module import FakeOrthanc
from tests.support.paths import ROOT
from tests.support.small_study import write_small_study
from tests.support.walks import run_walk

PYTHON_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancPython.so")
UIDS = [f"1.2.826.0.1.3680043.8.498.77{number}" for number in (1, 2, 3)]
IMAGES = 4 * 13


@pytest.fixture(scope="module")
def work() -> Iterator[Path]:
    """A folder with a short name, as the database's socket lies in it."""
    with tempfile.TemporaryDirectory(prefix="gn-orthanc-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def walked(program: Callable[[str], str], work: Path) -> dict[str, Any]:
    """One walk for all tests of this module."""
    if not PYTHON_PLUGIN.exists():
        message = "Debian's orthanc-python is missing; `make test` as root installs it"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    for uid in UIDS:
        write_small_study(uid, work / "studies" / uid)
    (work / "site").mkdir()
    peers = [program("storescu"), program("Orthanc")]
    result = run_walk("walk_through_orthanc", work / "studies", work / "site", *peers, timeout_s=250)
    logs = {path.stem: path.read_text(errors="replace")[-5000:] for path in (work / "site").glob("*.log")}
    assert result.returncode == 0, result.stderr + json.dumps(logs, indent=1)
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.mark.parametrize(("study", "begun"), [("first", 1), ("second", 2), ("third", 3)])
def test_results_are_in_the_same_orthanc_and_at_the_second(walked: dict[str, Any], study: str, begun: int) -> None:
    uid, found = UIDS[begun - 1], walked[study]
    results = [f"{uid}.99.1", f"{uid}.99.2"]
    assert (found["at_first"], found["at_second"]) == (results, results)
    assert found["taken"] == [str(IMAGES)] * begun, "each study once"
    said = found["said"]
    assert (said["state"], said["study_instance_uid"]) == ("segmented", uid)
    sent = {each["sop_instance_uid"]: each["deliveries"] for each in said["outputs"]}
    assert sent == {result: {"orthanc": "sent", "second": "sent"} for result in results}
    assert (found["mark"]["state"], found["mark"]["job"]) == ("segmented", said["job"]["key"])


def test_orthanc_goes_on_without_the_node(walked: dict[str, Any]) -> None:
    away = walked["away"]
    assert (away["node"], away["waiting"]) == ("away", 1)
    assert "does not answer" in away["why"]
    assert walked["ended_s"] < 20, "and ends in order"


def test_what_orthanc_forgot_is_found_at_its_start(walked: dict[str, Any]) -> None:
    assert walked["before"] == "unknown", "it was killed before it named the study"
    assert walked["third"]["said"]["job"]["attempts"] == 1


def test_results_feed_nothing_back(walked: dict[str, Any]) -> None:
    assert {state: count for state, count in walked["jobs"].items() if count} == {"segmented": 3}


def test_a_study_is_segmented_once_more_only_if_that_is_said(walked: dict[str, Any]) -> None:
    assert walked["again"] == [False, True]


def test_orthanc_shows_button_and_metrics(walked: dict[str, Any]) -> None:
    assert (ROOT / "plugin" / "orthanc_script" / "explorer.js").read_text() in walked["explorer"]
    metrics = {line.split()[0]: float(line.split()[1]) for line in walked["prometheus"].splitlines()}
    assert (metrics["glionode_node_up"], metrics["glionode_waiting"]) == (1, 0)


def test_the_fake_module_has_names_of_the_real_one_alone(walked: dict[str, Any]) -> None:
    ours = {name: getattr(FakeOrthanc, name) for name in dir(FakeOrthanc) if name[0].isupper()}
    assert len(ours) > 8
    for name, value in ours.items():
        assert name in walked["names"]
        if not callable(value) or isinstance(value, type):
            members = vars(value) if not isinstance(value, type) else [each for each in dir(value) if each[0].isupper()]
            assert set(members) <= set(walked["names"][name])


def test_no_text_of_a_header_is_in_a_log(walked: dict[str, Any], work: Path) -> None:
    logs = sorted((work / "site").glob("*.log"))
    assert [log.stem for log in logs] == ["first", "node", "second"]
    for log in logs:
        text = log.read_text(errors="replace")
        assert "MARKERxPHI" not in text
        assert "Traceback" not in text
