"""Another attempt at an analysis makes the same files, and another analysis of the same images makes others."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from pydicom import dcmread

from pipeline.align_settings import AlignSettings
from pipeline.scan import scan
from pipeline.segment import Segmented
from plugin.archive.report import Status
from plugin.archive.report_reader import ReportedJob, read_report
from plugin.jobs.prior_results import PriorResults
from plugin.settings.sections import Settings
from plugin.worker.context import open_worker_context
from plugin.worker.process_study import process_study
from plugin.worker.stopwatch import Stopwatch
from tests.support.node import new_study_uid
from tests.support.small_study import write_small_study

STARTED = datetime(2026, 3, 4, 5, 6, 7, 890123, tzinfo=UTC)
Analyse = Callable[[str, PriorResults], Path]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small study."""
    folder = tmp_path_factory.mktemp("images")
    write_small_study(new_study_uid(), folder)
    return folder


@pytest.fixture
def analyse(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Analyse:
    """Process the study into a folder of this name, with a network that marks a cube."""
    context = replace(open_worker_context(Settings(), device="cpu"), align=AlignSettings(enabled=False))

    def mark(channels: torch.Tensor, *_: object) -> Segmented:
        probabilities = torch.zeros_like(channels)
        middle = [slice(side // 2 - 9, side // 2 + 9) for side in channels.shape[1:]]
        probabilities[(slice(None), *middle)] = 1
        return Segmented(probabilities, "cpu")

    monkeypatch.setattr("plugin.worker.process_study.segment", mark)

    def run(name: str, prior_results: PriorResults) -> Path:
        (study,) = scan([images]).studies
        report = process_study(study, context, tmp_path / name, Stopwatch(), prior_results)
        assert report.status is Status.SEGMENTED
        return tmp_path / name

    return run


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.dcm")}


def uids(folder: Path) -> set[str]:
    found = [dcmread(path, stop_before_pixels=True) for path in folder.glob("*.dcm")]
    return {str(uid) for each in found for uid in (each.SOPInstanceUID, each.SeriesInstanceUID)}


def test_a_retry_makes_the_same_files_and_another_analysis_shares_no_uid_with_it(analyse: Analyse) -> None:
    first, retry = (analyse(name, PriorResults(STARTED)) for name in ("first", "retry"))
    assert digests(first) == digests(retry)
    assert len(digests(first)) == 5
    later = analyse("later", PriorResults(STARTED + timedelta(seconds=1)))
    assert digests(later).keys() == digests(first).keys()
    assert uids(later).isdisjoint(uids(first))
    for path in first.glob("*.dcm"):
        found = dcmread(path, stop_before_pixels=True)
        assert (found.ContentDate, found.ContentTime) == ("20260304", "050607.890123")
        assert not {"InstanceCreationDate", "InstanceCreationTime"} & set(found.dir())


def test_the_report_has_all_that_identifies_the_analysis(analyse: Analyse) -> None:
    job = ReportedJob("1.2-0123456789abcdef", "i", "m", 39, "own", 1, 2, STARTED - timedelta(hours=1), STARTED)
    folder = analyse("out", PriorResults(STARTED, job=job))
    read = read_report(folder)
    assert read.job == job
    assert {each.file: each.sha256 for each in read.written} == digests(folder)
    document = json.loads((folder / "report.json").read_text())
    assert document["software_version"] == version("glionode")
    assert datetime.fromisoformat(document["analysis_started_at"]) == STARTED
    model = Path(open_worker_context(Settings(), device="cpu").model.package.folder, "model.toml")
    assert read.package_sha256 == hashlib.sha256(model.read_bytes()).hexdigest()
