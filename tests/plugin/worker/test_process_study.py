"""Studies that do not get through all steps. tests/end_to_end processes whole studies."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydicom import dcmread
from typer.testing import CliRunner

from pipeline.align_settings import AlignSettings
from pipeline.choose import Choice, Selected
from pipeline.errors import PlaceUnknown
from pipeline.scan import scan
from plugin.archive.report import Status
from plugin.commands.app import app
from plugin.jobs.prior_results import PriorResults
from plugin.settings.sections import Settings
from plugin.worker.context import WorkerContext, open_worker_context
from plugin.worker.process_study import process_study
from plugin.worker.stopwatch import Stopwatch
from plugin.worker.study_segmenter import segment_files
from tests.support.node import MARKER, make_instance, new_study_uid, write_instance
from tests.support.small_study import SLICES, USED_SERIES, write_small_study


@pytest.fixture(scope="module")
def context() -> WorkerContext:
    """The bundled model on the CPU."""
    return open_worker_context(Settings(), device="cpu")


def test_the_settings_of_alignment_reach_the_worker() -> None:
    settings = Settings(alignment={"min_overlap": 0.5})
    assert open_worker_context(settings, device="cpu").align == AlignSettings(min_overlap=0.5)


@pytest.mark.parametrize(("on", "below"), [(False, None), (True, 1.4)])
def test_intermediate_adc_is_measured_only_where_the_settings_ask_for_it(on: bool, below: float | None) -> None:
    settings = Settings(outputs={"intermediate_adc": on, "intermediate_adc_below": 1.4})
    assert open_worker_context(settings, device="cpu").intermediate_adc_below == below


def test_a_study_without_the_roles_is_not_eligible_and_says_why(context: WorkerContext, tmp_path: Path) -> None:
    write_instance(make_instance(new_study_uid()), tmp_path / "in")
    (study,) = scan([tmp_path / "in"]).studies
    report = process_study(study, context, tmp_path / "out", Stopwatch(), PriorResults(datetime.now(UTC)))
    assert report.status is Status.NOT_ELIGIBLE
    assert report.reason
    assert MARKER not in report.reason
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (written["status"], written["reason"]) == ("not_eligible", report.reason)
    assert set(written["timings_s"]) == {"choose", "total"}


def test_a_failure_in_reading_names_the_series_and_the_roles_that_were_chosen(
    context: WorkerContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_instance(make_instance(new_study_uid()), tmp_path / "in")
    (study,) = scan([tmp_path / "in"]).studies
    choices = tuple(Choice(role, study.series[0], ("the test says so",)) for role in context.wanted.roles)
    monkeypatch.setattr("plugin.worker.candidate_series.choose", lambda *_: Selected(choices))
    report = process_study(study, context, tmp_path / "out", Stopwatch(), PriorResults(datetime.now(UTC)))
    assert report.status is Status.FAILED
    assert report.reason
    assert study.series[0].series_instance_uid in report.reason
    assert {entry.role for entry in report.roles} == set(context.wanted.roles)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.json"]


def test_images_of_two_studies_are_no_study(context: WorkerContext, tmp_path: Path) -> None:
    """An archive handed out as one study what is two: taking the first would lose half without a word."""
    uids = sorted((new_study_uid(), new_study_uid()))
    paths = [write_instance(make_instance(uid), tmp_path / "in") for uid in uids]
    outcome = segment_files(paths, tmp_path / "out", context, PriorResults(datetime.now(UTC)), Stopwatch())
    assert outcome.status == "failed"
    assert outcome.reason is not None
    assert all(uid in outcome.reason for uid in uids)
    assert not (tmp_path / "out").exists()


def rewrite(paths: list[Path], series: int, **values: str) -> None:
    for path in paths:
        header = dcmread(path)
        if header.SeriesNumber == series:
            for keyword, value in values.items():
                setattr(header, keyword, value)
            header.save_as(path)


@pytest.mark.parametrize("series", [*USED_SERIES, 4])
def test_two_patients_are_refused_before_pixels_are_read_unless_the_series_is_not_used(
    series: int, context: WorkerContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study_uid = new_study_uid()
    rewrite(write_small_study(study_uid, tmp_path / "in"), series, PatientID="SOMEBODY-ELSE")
    (study,) = scan([tmp_path / "in"]).studies
    read: list[object] = []

    def read_nothing(*_: object) -> None:
        read.append(None)
        raise PlaceUnknown("The test reads no pixels.")

    monkeypatch.setattr("plugin.worker.process_study.read_volume", read_nothing)
    report = process_study(study, context, tmp_path / "out", Stopwatch(), PriorResults(datetime.now(UTC)))
    assert report.status is Status.FAILED
    assert report.reason is not None
    refused = report.reason.startswith(f"The images are not all of one patient: series {study_uid}.{series} (")
    assert (refused, bool(read)) == (series in USED_SERIES, series not in USED_SERIES)
    assert "SOMEBODY" not in report.reason
    assert MARKER not in report.reason
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (written["status"], written["reason"]) == ("failed", report.reason)


def test_series_with_common_instance_uids_are_refused_by_name(context: WorkerContext, tmp_path: Path) -> None:
    study_uid = new_study_uid()
    for path in write_small_study(study_uid, tmp_path / "in"):
        header = dcmread(path)
        if header.SeriesNumber == 3:
            header.SOPInstanceUID = header.SOPInstanceUID.replace(f"{study_uid}.3.", f"{study_uid}.2.")
            header.save_as(path)
    (study,) = scan([tmp_path / "in"]).studies
    report = process_study(study, context, tmp_path / "out", Stopwatch(), PriorResults(datetime.now(UTC)))
    assert report.status is Status.FAILED
    assert str(report.reason).startswith("Series ")
    assert f"{study_uid}.2 (FLAIR)" in str(report.reason)
    assert f"{study_uid}.3 (ADC)" in str(report.reason)
    assert f"{SLICES} SOP Instance UIDs in common" in str(report.reason)


def test_a_report_that_cannot_be_written_is_still_returned(
    context: WorkerContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_instance(make_instance(new_study_uid()), tmp_path / "in")
    (study,) = scan([tmp_path / "in"]).studies
    (tmp_path / "out").write_text("a file where a folder should be")
    report = process_study(study, context, tmp_path / "out", Stopwatch(), PriorResults(datetime.now(UTC)))
    assert report.status is Status.FAILED
    assert str(tmp_path / "out") in str(report.reason)


def test_a_defect_in_one_study_does_not_stop_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        write_instance(make_instance(new_study_uid()), tmp_path / "in")
    from plugin.worker import candidate_series as worker

    choose, calls = worker.choose, iter((True, False))

    def defective(*arguments: object) -> object:
        if next(calls):
            raise ZeroDivisionError(f"{MARKER} in a text that must not be shown")
        return choose(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(worker, "choose", defective)
    result = CliRunner().invoke(app, ["segment", str(tmp_path / "in"), str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "ZeroDivisionError in test_process_study.py" in result.output
    assert MARKER not in result.output
    assert "Traceback" not in result.output
    reports = [json.loads(path.read_text()) for path in sorted((tmp_path / "out").glob("*/report.json"))]
    assert sorted(report["status"] for report in reports) == ["failed", "not_eligible"]
