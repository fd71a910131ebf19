"""A study without series that its model can do without goes through all steps: what is there is reported, no more."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from pydicom import Dataset, dcmread

from dicom_seg.check_files import check_files
from models.labels import Role
from models.package import ModelPackage, Refinement
from pipeline.align_settings import AlignSettings
from pipeline.rules import load_rules
from pipeline.scan import scan
from pipeline.study import Study
from plugin.archive.report import Report, Status
from plugin.jobs.prior_results import PriorResults
from plugin.worker.context import WorkerContext
from plugin.worker.process_study import process_study
from plugin.worker.stopwatch import Stopwatch
from plugin.worker.warm_model import WarmModel
from tests.support.node import new_study_uid
from tests.support.small_study import write_small_study

SERIES = {"T1CE": 1, "FLAIR": 2, "ADC": 3}
ABSENT = "was absent, and the study was segmented without it."
NOT_REPORTED = f"{ABSENT} Not reported, which does not mean that there is none:"
STARTED = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def package(make_package: Callable[..., ModelPackage]) -> ModelPackage:
    """A model with random weights that needs FLAIR alone."""
    return make_package(optional=(Role.ADC, Role.T1CE))


def context_of(package: ModelPackage, *require: Role) -> WorkerContext:
    """The balls of the small study have no structure to register, so the scanner's coordinates are used."""
    model, device = WarmModel(package, "float32"), torch.device("cpu")
    return WorkerContext(model, load_rules(), device, align=AlignSettings(enabled=False), require=require)


def study_with(folder: Path, *roles: str) -> Study:
    """Write the small study with these series, and a T2 that is not used."""
    for path in write_small_study(new_study_uid(), folder):
        if int(path.stem.split(".")[-2]) not in {4, *(SERIES[role] for role in roles)}:
            path.unlink()
    (study,) = scan([folder]).studies
    return study


def process(study: Study, context: WorkerContext, out: Path) -> tuple[Report, dict[str, Any], dict[str, Dataset]]:
    """Return the report, its JSON, and the objects by their file names."""
    report = process_study(study, context, out, Stopwatch(), PriorResults(STARTED))
    objects = {each.path: dcmread(out / each.path) for each in report.outputs}
    return report, json.loads((out / "report.json").read_text()), objects


def texts(report: Dataset) -> str:
    return "\n".join(str(each.value) for each in report.iterall() if each.keyword == "TextValue")


@pytest.mark.parametrize(
    ("roles", "segments", "remarks"),
    [
        (
            ("T1CE", "FLAIR", "ADC"),
            {
                "seg-t1ce.dcm": ["Enhancing tumour", "ADC abnormality", "FLAIR hyperintensity"],
                "seg-flair.dcm": ["FLAIR hyperintensity"],
                "seg-adc.dcm": ["ADC abnormality"],
            },
            [],
        ),
        (
            ("T1CE", "FLAIR"),
            {"seg-t1ce.dcm": ["Enhancing tumour", "FLAIR hyperintensity"], "seg-flair.dcm": ["FLAIR hyperintensity"]},
            [f"ADC {NOT_REPORTED} ADC abnormality."],
        ),
        (
            ("FLAIR", "ADC"),
            {"seg-flair.dcm": ["ADC abnormality", "FLAIR hyperintensity"], "seg-adc.dcm": ["ADC abnormality"]},
            [f"T1CE {NOT_REPORTED} Enhancing tumour."],
        ),
        (
            ("FLAIR",),
            {"seg-flair.dcm": ["FLAIR hyperintensity"]},
            [f"ADC {NOT_REPORTED} ADC abnormality.", f"T1CE {NOT_REPORTED} Enhancing tumour."],
        ),
    ],
)
def test_each_series_that_is_there_has_a_seg_and_what_is_absent_is_said(
    package: ModelPackage, tmp_path: Path, roles: tuple[str, ...], segments: dict[str, list[str]], remarks: list[str]
) -> None:
    report, written, objects = process(study_with(tmp_path / "in", *roles), context_of(package), tmp_path / "out")
    assert report.status is Status.SEGMENTED, report.reason
    segs = {path: seg for path, seg in objects.items() if seg.Modality == "SEG"}
    assert {path: [each.SegmentLabel for each in seg.SegmentSequence] for path, seg in segs.items()} == segments
    assert not any(each.problems for each in check_files(tmp_path / "out", tmp_path / "in"))
    assert [each.text for each in report.remarks if ABSENT in each.text] == remarks
    measurements = texts(objects["sr-measurements.dcm"])
    assert all(each in measurements for each in remarks)
    assert "capture-01.dcm" in objects
    assert set(written["roles"]) == set(roles)
    assert written["reference"] == roles[0]
    assert written["absent"] == [role for role in ("ADC", "FLAIR", "T1CE") if role not in roles]
    labels = {name for name, absent in _DEFINED_ON.items() if absent in roles}
    assert set(written["labels"]) == labels
    assert written["not_reported"] == {name: {"absent": on} for name, on in _DEFINED_ON.items() if name not in labels}


_DEFINED_ON = {"enhancing_tumour": "T1CE", "adc_abnormality": "ADC", "flair_hyperintensity": "FLAIR"}


def test_the_log_says_what_came_near_to_a_series_that_is_absent(
    package: ModelPackage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    study = study_with(tmp_path / "in", "FLAIR")
    process(study, context_of(package), tmp_path / "out")
    said = "segmented without ADC and T1CE: no ADC map and no T1 after contrast among 2 series"
    assert f"study {study.study_instance_uid}: {said}" in caplog.messages


def test_the_order_in_which_series_and_images_are_given_changes_no_byte(package: ModelPackage, tmp_path: Path) -> None:
    study = study_with(tmp_path / "in", "FLAIR", "ADC")
    series = [replace(each, instances=tuple(reversed(each.instances))) for each in reversed(study.series)]
    made = [
        process(each, context_of(package), tmp_path / f"out-{number}")[0].outputs
        for number, each in enumerate((study, replace(study, series=tuple(series))))
    ]
    assert made[0] == made[1], "file names, UIDs and digests"


def test_a_label_is_inferred_where_the_package_says_so(package: ModelPackage, tmp_path: Path) -> None:
    by_adc = Refinement((Role.ADC,), 1.0)  # which is absent, so that the network's answer stays
    inferring = replace(package.labels[1], inferred_from=(Role.FLAIR,), refinement=by_adc)
    package = replace(package, labels=(package.labels[0], inferring, package.labels[2]))
    report, written, objects = process(study_with(tmp_path / "in", "FLAIR"), context_of(package), tmp_path / "out")
    assert [each.SegmentLabel for each in objects["seg-flair.dcm"].SegmentSequence] == [
        "ADC abnormality",
        "FLAIR hyperintensity",
    ]
    assert written["labels"]["adc_abnormality"]["inferred_from"] == ["FLAIR"]
    assert "ADC abnormality was inferred from FLAIR" in texts(objects["sr-measurements.dcm"])
    assert set(objects) >= {"seg-flair.dcm", "sr-measurements.dcm", "capture-01.dcm"}
    assert "seg-adc.dcm" not in objects
    assert report.status is Status.SEGMENTED


def test_a_site_may_require_what_the_model_can_do_without(package: ModelPackage, tmp_path: Path) -> None:
    study = study_with(tmp_path / "in", "T1CE", "FLAIR")
    report, _, objects = process(study, context_of(package, Role.ADC), tmp_path / "out")
    assert (report.status, objects) == (Status.NOT_ELIGIBLE, {})
    assert report.reason == "no ADC map among 3 series"


def test_a_study_of_which_no_label_can_be_reported_is_not_eligible(package: ModelPackage, tmp_path: Path) -> None:
    without_flair = replace(package, labels=package.labels[:2], optional=(Role.ADC, Role.T1CE))
    study = study_with(tmp_path / "in", "FLAIR")
    model = WarmModel(package, "float32")
    model.package = without_flair  # its network has an output more
    context = replace(context_of(package), model=model)
    report, _, objects = process(study, context, tmp_path / "out")
    assert (report.status, objects) == (Status.NOT_ELIGIBLE, {})
    assert str(report.reason).startswith("without T1CE and ADC the model reports no label: no ADC map")


def test_an_optional_series_that_does_not_show_the_head_is_left_out_with_a_remark(
    package: ModelPackage, tmp_path: Path
) -> None:
    study = study_with(tmp_path / "in", "T1CE", "FLAIR", "ADC")
    cut = tuple(
        replace(each, instances=each.instances[:10]) if each.series_number == SERIES["ADC"] else each
        for each in study.series
    )
    strict, stricter = (replace(context_of(package, *each), min_coverage=0.9) for each in ((), (Role.ADC,)))
    report, written, objects = process(replace(study, series=cut), strict, tmp_path / "out")
    assert report.status is Status.SEGMENTED, report.reason
    said = "was the first choice for ADC, but does not show the head as that needs it; it was left out."
    assert any(each.text.endswith(said) for each in report.remarks)
    assert written["absent"] == ["ADC"]
    assert "seg-adc.dcm" not in objects
    report, _, _ = process(replace(study, series=cut), stricter, tmp_path / "required")
    assert report.status is Status.FAILED, "a site that requires ADC gets no result without it"


def test_an_adc_that_comes_late_makes_another_result(package: ModelPackage, tmp_path: Path) -> None:
    study = study_with(tmp_path / "in", "T1CE", "FLAIR", "ADC")
    early = replace(study, series=tuple(each for each in study.series if each.series_number != SERIES["ADC"]))
    first, _, _ = process(early, context_of(package), tmp_path / "first")
    assert first.images_sha256 is not None
    prior = PriorResults(STARTED, current_results={first.images_sha256: "a job"})
    again = process_study(early, context_of(package), tmp_path / "again", Stopwatch(), prior)
    assert again.status is Status.UNCHANGED
    late = process_study(study, context_of(package), tmp_path / "late", Stopwatch(), prior)
    assert (late.status, late.absent) == (Status.SEGMENTED, ())
