"""Test an Orthanc that runs the Orthanc script, the node beside it and a second Orthanc: no outage loses anything."""

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_orthanc_module import FakeCurrentOrthanc, FakeOrthanc
from tests.support.installed import OrthancInstallation
from tests.support.paths import ROOT
from tests.support.small_study import write_small_study
from tests.support.walks import run_walk

UIDS = [f"1.2.826.0.1.3680043.8.498.77{number}" for number in (1, 2, 3)]
IMAGES = 4 * 13


@pytest.fixture(scope="module")
def work(orthanc: OrthancInstallation) -> Iterator[Path]:
    """A folder with a short path, for the database's socket."""
    with tempfile.TemporaryDirectory(prefix="gn-orthanc-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def observed(program: Callable[[str], str], orthanc: OrthancInstallation, work: Path) -> dict[str, Any]:
    """What one walk observed, for all tests of this module."""
    for uid in UIDS:
        write_small_study(uid, work / "studies" / uid)
    (work / "site").mkdir()
    peers = [program("storescu"), orthanc.program, orthanc.python_plugin]
    result = run_walk("walk_through_orthanc", work / "studies", work / "site", *peers, timeout_s=250)
    logs = {path.stem: path.read_text(errors="replace")[-5000:] for path in (work / "site").glob("*.log")}
    assert result.returncode == 0, result.stderr + json.dumps(logs, indent=1)
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.mark.parametrize(("study", "jobs"), [("first", 1), ("second", 2), ("third", 3)])
def test_results_are_in_the_same_orthanc_and_at_the_second(observed: dict[str, Any], study: str, jobs: int) -> None:
    uid, found = UIDS[jobs - 1], observed[study]
    results = [f"{uid}.99.1", f"{uid}.99.2"]
    assert (found["at_first"], found["at_second"]) == (results, results)
    assert found["images_by_job"] == [str(IMAGES)] * jobs, "each study has one job"
    status = found["status"]
    assert (status["state"], status["study_instance_uid"]) == ("segmented", uid)
    sent = {each["sop_instance_uid"]: each["deliveries"] for each in status["outputs"]}
    assert sent == {result: {"orthanc": "sent", "second": "sent"} for result in results}
    assert (found["mark"]["state"], found["mark"]["job"]) == ("segmented", status["job"]["key"])


def test_orthanc_keeps_running_without_the_node(observed: dict[str, Any]) -> None:
    status = observed["node_down"]
    assert (status["node"], status["waiting"]) == ("away", 1)
    assert "does not answer" in status["why"]
    assert observed["terminated_s"] < 20, "SIGTERM ends Orthanc in time"


def test_a_study_that_was_not_submitted_before_a_crash_is_found_at_the_next_start(observed: dict[str, Any]) -> None:
    assert observed["before"] == "unknown", "it was killed before it submitted the study"
    assert observed["third"]["status"]["job"]["attempts"] == 1


def test_results_in_orthanc_start_no_job(observed: dict[str, Any]) -> None:
    assert {state: count for state, count in observed["jobs"].items() if count} == {"segmented": 3}


def test_a_study_is_segmented_again_only_if_forced(observed: dict[str, Any]) -> None:
    assert observed["again"] == [False, True]


def test_orthanc_serves_the_button_and_the_metrics(observed: dict[str, Any]) -> None:
    assert (ROOT / "plugin" / "orthanc_script" / "explorer.js").read_text() in observed["explorer"]
    metrics = {line.split()[0]: float(line.split()[1]) for line in observed["prometheus"].splitlines()}
    assert (metrics["glionode_node_up"], metrics["glionode_waiting"]) == (1, 0)


def test_a_current_orthanc_shows_the_outcome_as_a_label(observed: dict[str, Any], orthanc: OrthancInstallation) -> None:
    labels = [observed[study]["labels"] for study in ("first", "second", "third")]
    assert labels == [["glionode-segmented"] if orthanc.current else None] * 3


def test_the_fake_module_has_only_names_of_the_real_one(observed: dict[str, Any], orthanc: OrthancInstallation) -> None:
    fake = FakeCurrentOrthanc if orthanc.current else FakeOrthanc
    ours = {name: getattr(fake, name) for name in dir(fake) if name[0].isupper()}
    assert len(ours) > 8
    for name, value in ours.items():
        assert name in observed["names"]
        if not callable(value) or isinstance(value, type):
            members = vars(value) if not isinstance(value, type) else [each for each in dir(value) if each[0].isupper()]
            assert set(members) <= set(observed["names"][name])


def test_no_log_contains_text_of_a_header(observed: dict[str, Any], work: Path) -> None:
    logs = sorted((work / "site").glob("*.log"))
    assert [log.stem for log in logs] == ["first", "node", "second"]
    for log in logs:
        text = log.read_text(errors="replace")
        assert "MARKERxPHI" not in text
        assert "Traceback" not in text
