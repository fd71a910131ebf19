"""What becomes of a study whose ADC map shows only a part of the head, with a network that marks two places."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

from models.labels import Role
from pipeline.align_settings import AlignSettings
from pipeline.choose import Choice, NotEligible, Selected
from pipeline.remarks import RemarkKind
from pipeline.scan import scan
from pipeline.segment import Segmented
from pipeline.study import Series, Study
from pipeline.volume import Geometry, Volume
from plugin.archive.report import Report, Status
from plugin.archive.report_reader import read_report
from plugin.jobs.prior_results import PriorResults
from plugin.settings.sections import Settings
from plugin.worker.context import open_worker_context
from plugin.worker.process_study import process_study
from plugin.worker.stopwatch import Stopwatch
from tests.support.head_volumes import AXIAL, SAGITTAL, head
from tests.support.node import new_study_uid
from tests.support.small_study import write_small_study

Run = Callable[..., Report]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Process a study whose ADC map has the slices given; the network marks a ball at each of `marked_mm`."""
    context = replace(open_worker_context(Settings(), device="cpu"), align=AlignSettings(enabled=False))
    write_small_study(new_study_uid(), tmp_path / "in", 2)
    (study,) = scan([tmp_path / "in"]).studies
    roles = dict(zip((Role.T1CE, Role.FLAIR, Role.ADC), study.series, strict=False))
    *_, second_adc = study.series

    def run(
        adc_slices: slice,
        marked_mm: tuple[float, ...] = (),
        t1ce: Geometry = SAGITTAL,
        second_adc_slices: slice | None = None,
    ) -> Report:
        adc = head(AXIAL, masked=True)
        box = (adc_slices, slice(0, AXIAL.shape[1]), slice(0, AXIAL.shape[2]))
        partial = Volume(adc.pixels[box], AXIAL.cropped(box))
        volumes = {Role.T1CE: replace(head(SAGITTAL), geometry=t1ce), Role.FLAIR: head(AXIAL), Role.ADC: partial}

        def choose(among: Study, *_: object) -> Selected | NotEligible:
            chosen = dict(roles)
            if roles[Role.ADC] not in among.series and second_adc_slices is not None:
                chosen[Role.ADC] = second_adc
            missing = tuple(role for role, series in chosen.items() if series not in among.series)
            if missing:
                return NotEligible("the test has no other", missing)
            return Selected(tuple(Choice(role, series, ("the test says so",)) for role, series in chosen.items()))

        def read(series: Series, role: Role) -> Volume:
            if series is second_adc and second_adc_slices is not None:
                box = (second_adc_slices, slice(0, AXIAL.shape[1]), slice(0, AXIAL.shape[2]))
                return Volume(adc.pixels[box], AXIAL.cropped(box))
            return volumes[role]

        def mark(channels: torch.Tensor, *_: object) -> Segmented:
            probabilities = torch.zeros_like(channels)
            size = channels.shape[1]
            for z_mm in marked_mm:  # the grid's middle is that of the head and neck, 15 to 20 mm below the origin
                plane = round(size / 2 + (z_mm + 17.5) / context.model.package.spacing_mm)
                row, column = (side // 2 for side in channels.shape[2:])
                probabilities[:, plane - 8 : plane + 9, row - 8 : row + 9, column - 8 : column + 9] = 1
            return Segmented(probabilities, "cpu")

        monkeypatch.setattr("plugin.worker.candidate_series.choose", choose)
        replacements = {
            "read_volume": read,
            "segment": mark,
            "refine": lambda probabilities, *_: probabilities,
            "encode": lambda *_: (),
            "check": lambda *_: [],
        }
        for name, value in replacements.items():
            monkeypatch.setattr(f"plugin.worker.process_study.{name}", value)
        return process_study(study, context, tmp_path / "out", Stopwatch(), PriorResults(datetime.now(UTC)))

    return run


def written(tmp_path: Path) -> dict[str, object]:
    document: dict[str, object] = json.loads((tmp_path / "out" / "report.json").read_text())
    return document


def test_a_scan_that_was_broken_off_fails_with_its_name(run: Run) -> None:
    report = run(slice(0, 10))
    assert report.status is Status.FAILED
    adc = next(each for each in report.roles if each.role is Role.ADC)
    assert str(report.reason).startswith(f"Series {adc.series_instance_uid} (ADC) shows ")
    assert "min_coverage" in str(report.reason)


def test_another_series_that_shows_the_head_takes_the_place_of_one_that_was_broken_off(run: Run) -> None:
    report = run(slice(0, 10), second_adc_slices=slice(0, 32))
    assert report.status is Status.SEGMENTED
    first, *_ = report.remarks
    assert first.roles == (Role.ADC,)
    assert "was the first choice for ADC" in first.text
    assert all(each.whole for each in report.coverage)
    assert [step.step for step in report.timings].count("align") == 1


def test_where_no_series_shows_the_head_the_failure_names_both(run: Run) -> None:
    report = run(slice(0, 10), second_adc_slices=slice(0, 8))
    assert report.status is Status.FAILED
    adc = next(each for each in report.roles if each.role is Role.ADC)
    assert str(report.reason).startswith(f"Series {adc.series_instance_uid} (ADC) shows ")
    assert "was the first choice for ADC" in str(report.reason)


def test_nothing_found_in_a_part_of_the_head_is_no_volume_of_zero(run: Run, tmp_path: Path) -> None:
    report = run(slice(0, 22))
    assert report.status is Status.SEGMENTED
    document = written(tmp_path)
    assert document["coverage"]["ADC"]["whole"] is False  # type: ignore[index]
    for label in document["labels"].values():  # type: ignore[attr-defined]
        assert (label["volume_ml"], label["lesion_count"]) == (None, None)
        assert 0.7 < label["seen_share"] < 0.95
    remark, empty = document["remarks"]  # type: ignore[misc]
    assert (remark["kind"], remark["roles"]) == ("coverage", ["ADC"])
    assert "top" in remark["text"]
    assert read_report(tmp_path / "out").remarks == (remark["text"], empty["text"])


def test_what_is_marked_where_adc_was_not_seen_is_left_out_and_said(run: Run) -> None:
    report = run(slice(0, 22), marked_mm=(0.0, 60.0))  # ADC ends 47.5 mm above the middle of the head
    assert [each.lesion_count for each in report.labels] == [2, 1, 2], "the second label is defined on ADC"
    _, doubtful, left_out = report.remarks
    assert "ml of Enhancing tumour" in doubtful.text
    assert "ml of FLAIR hyperintensity lie where not every series shows the head" in doubtful.text
    assert "ADC" not in doubtful.text
    assert "ml of ADC abnormality were marked where the series on which they are defined shows nothing" in left_out.text
    whole = run(slice(0, 32), marked_mm=(0.0,))
    assert whole.remarks == ()
    assert report.labels[1].volume_ml == whole.labels[1].volume_ml > 0


def test_nothing_found_in_a_whole_head_is_a_volume_of_zero(run: Run, tmp_path: Path) -> None:
    report = run(slice(0, 32))
    assert [each.whole for each in report.coverage] == [True, True, True]
    labels = written(tmp_path)["labels"]
    assert {label["volume_ml"] for label in labels.values()} == {0.0}  # type: ignore[attr-defined]
    assert {label["seen_share"] for label in labels.values()} == {1.0}  # type: ignore[attr-defined]
    (empty,) = report.remarks
    assert empty.kind is RemarkKind.EMPTY
    assert "does not mean that nothing is there" in empty.text
    assert "on synthetic heads, not on patients: Enhancing tumour up to 1 ml in " in empty.text


def test_a_geometry_that_no_head_has_fails_before_anything_is_computed(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = replace(SAGITTAL, row_step_mm=(0.0, 0.0, -1e-6), column_step_mm=(0.0, 1e-6, 0.0))
    monkeypatch.setattr("plugin.worker.process_study.align", None)
    report = run(slice(0, 32), t1ce=tiny)
    assert report.status is Status.FAILED
    assert "pixels are 1e-06 x 1e-06 mm" in str(report.reason)
