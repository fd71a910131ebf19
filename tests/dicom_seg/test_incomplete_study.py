"""Objects of studies that lack a series, and of models with other labels than the paper's, read by other programs."""

import subprocess
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset

from dicom_seg.check import check
from dicom_seg.encode import EncodedObject, encode
from models.labels import (
    ADC_ABNORMALITY,
    ENHANCING_TUMOUR,
    FLAIR_HYPERINTENSITY,
    LABELS,
    NECROTIC_CORE,
    RESECTION_CAVITY,
    TUMOUR_CORE,
    WHOLE_TUMOUR,
    Label,
    Role,
)
from pipeline.absence import absence_remarks
from pipeline.result import (
    Inferred,
    LabelMeasurement,
    MasksOnSeries,
    NotReported,
    Panels,
    SegmentationResult,
)

WITHOUT_ADC = (NotReported(ADC_ABNORMALITY, Role.ADC),)
WITHOUT_T1CE = (NotReported(ENHANCING_TUMOUR, Role.T1CE),)
INFERRED = (Inferred(FLAIR_HYPERINTENSITY, Role.FLAIR, (Role.T1CE,)),)
CASES: dict[str, dict[str, Any]] = {
    "without ADC": {"absent": (Role.ADC,), "not_reported": WITHOUT_ADC},
    "without T1CE": {"absent": (Role.T1CE,), "not_reported": WITHOUT_T1CE, "reference": Role.FLAIR},
    "without FLAIR, inferred": {"absent": (Role.FLAIR,), "inferred": INFERRED},
    "T1CE alone": {
        "absent": (Role.FLAIR, Role.ADC),
        "not_reported": (*WITHOUT_ADC, NotReported(FLAIR_HYPERINTENSITY, Role.FLAIR)),
    },
    "other labels": {
        "labels": (ENHANCING_TUMOUR, TUMOUR_CORE, WHOLE_TUMOUR, NECROTIC_CORE, RESECTION_CAVITY),
        "not_reported": (),
    },
}
MakeStudy = Callable[[str], tuple[SegmentationResult, tuple[EncodedObject, ...]]]


@pytest.fixture
def make_study(make_result, started) -> MakeStudy:  # type: ignore[no-untyped-def]
    """Return a function that makes the result of one of CASES, and its objects."""

    def make(name: str) -> tuple[SegmentationResult, tuple[EncodedObject, ...]]:
        found = _incomplete(make_result(), **CASES[name])
        return found, encode(found, started)

    return make


def _incomplete(
    whole: SegmentationResult,
    absent: tuple[Role, ...] = (),
    not_reported: tuple[NotReported, ...] = (),
    inferred: tuple[Inferred, ...] = (),
    reference: Role = Role.T1CE,
    labels: tuple[Label, ...] | None = None,
) -> SegmentationResult:
    left_out = {each.label for each in not_reported}
    labels = labels or tuple(label for label in whole.labels if label not in left_out)
    sources = tuple(each for each in whole.sources if each.role not in absent)
    geometry = whole.source(reference).geometry
    rng = np.random.default_rng(4)
    masks = rng.random((len(labels), *geometry.shape)) < 0.3
    own = {
        role: tuple(label for label in labels if label.defined_on is role)
        for role in (each.role for each in sources if each.role is not reference)
    }
    return replace(
        whole,
        sources=sources,
        alignments=tuple(each for each in whole.alignments if each.role in own),
        labels=labels,
        masks=masks,
        measurements=tuple(
            LabelMeasurement(label, float(mask.sum()) * geometry.voxel_volume_mm3 / 1000, 2, None)
            for label, mask in zip(labels, masks, strict=True)
        ),
        native=tuple(
            MasksOnSeries(role, of, rng.random((len(of), *whole.source(role).geometry.shape)) < 0.3)
            for role, of in own.items()
        ),
        panels=Panels((1,), (reference,), rng.random((1, 1, *geometry.shape[1:])).astype(np.float32)),
        reference=reference,
        absent=absent,
        not_reported=not_reported,
        inferred=inferred,
        remarks=absence_remarks(absent, not_reported, inferred),
    )


def _texts(dataset: Dataset) -> list[str]:
    """All texts of a report, in its order."""
    texts = [str(dataset.TextValue)] if "TextValue" in dataset else []
    return texts + [text for item in dataset.get("ContentSequence") or () for text in _texts(item)]


def _named(objects: tuple[EncodedObject, ...], name: str) -> Dataset:
    (dataset,) = (each.dataset for each in objects if each.file_name == name)
    return dataset


@pytest.mark.parametrize("name", CASES)
def test_others_find_no_error_in_the_objects(name, make_study, program, tmp_path):
    result, objects = make_study(name)
    assert check(objects, result) == ()
    assert objects
    for each in objects:
        path = tmp_path / each.file_name
        path.write_bytes(each.content)
        said = subprocess.run([program("dciodvfy"), "-new", path], capture_output=True, text=True, check=False).stderr
        assert [line for line in said.splitlines() if line.startswith("Error")] == []


@pytest.mark.parametrize(
    ("name", "segs"),
    [
        ("without ADC", {"seg-t1ce.dcm": (1, 3), "seg-flair.dcm": (3,)}),
        ("without T1CE", {"seg-flair.dcm": (2, 3), "seg-adc.dcm": (2,)}),
        ("without FLAIR, inferred", {"seg-t1ce.dcm": (1, 2, 3), "seg-adc.dcm": (2,)}),
        ("T1CE alone", {"seg-t1ce.dcm": (1,)}),
        ("other labels", {"seg-t1ce.dcm": (1, 4, 5, 6, 7), "seg-flair.dcm": (5,)}),
    ],
)
def test_segs_are_on_the_series_that_are_there_and_hold_what_is_reported(name, segs, make_study):
    _, objects = make_study(name)
    found = {
        each.file_name: tuple(segment.SegmentLabel for segment in each.dataset.SegmentSequence)
        for each in objects
        if each.file_name.startswith("seg")
    }
    assert found == {file: tuple(LABELS[number - 1].title for number in numbers) for file, numbers in segs.items()}


@pytest.mark.parametrize("name", CASES)
def test_groups_refer_to_the_segment_of_their_label(name, make_study):
    result, objects = make_study(name)
    seg = _named(objects, f"seg-{result.reference.lower()}.dcm")
    tracked = {str(each.TrackingUID): int(each.SegmentNumber) for each in seg.SegmentSequence}
    referred = {}
    for group in _groups(_named(objects, "sr-measurements.dcm")):
        items = group.ContentSequence
        uid = next(str(each.UID) for each in items if each.ValueType == "UIDREF")
        (number,) = (
            each.ReferencedSOPSequence[0].ReferencedSegmentNumber
            for each in items
            if "ReferencedSegmentNumber" in (each.get("ReferencedSOPSequence") or [Dataset()])[0]
        )
        referred[uid] = int(number)
    assert referred == tracked
    assert len(referred) == len(result.labels)


def _groups(report: Dataset) -> list[Dataset]:
    (measured,) = (each for each in report.ContentSequence if each.ConceptNameCodeSequence[0].CodeValue == "126010")
    return list(measured.ContentSequence)


def test_the_report_says_what_is_absent_and_not_reported(make_study):
    _, objects = make_study("without ADC")
    texts = _texts(_named(objects, "sr-measurements.dcm"))
    absence = "ADC was absent, and the study was segmented without it."
    assert f"{absence} Not reported, which does not mean that there is none: ADC abnormality." in texts


def test_an_inferred_label_says_so_in_its_group(make_study):
    _, objects = make_study("without FLAIR, inferred")
    sentence = "FLAIR hyperintensity was inferred from T1CE."
    said = [sentence in _texts(group) for group in _groups(_named(objects, "sr-measurements.dcm"))]
    assert said == [False, False, True]


def test_tracking_belongs_to_a_label_whatever_else_is_reported(make_result, started):
    """The FLAIR hyperintensity of a study keeps its tracking UID when ADC is missing and it is the second segment."""
    whole = make_result()
    tracked = []
    for result in (whole, _incomplete(whole, **CASES["without ADC"])):
        seg = _named(encode(result, started), "seg-t1ce.dcm")
        tracked += [
            str(each.TrackingUID) for each in seg.SegmentSequence if each.SegmentLabel == "FLAIR hyperintensity"
        ]
    assert len(tracked) == 2
    assert len(set(tracked)) == 1


def test_the_picture_has_a_row_for_each_label_and_its_remarks_below(make_result, make_study, started):
    complete = _named(encode(_incomplete(make_result()), started), "capture-01.dcm")
    more = _named(make_study("other labels")[1], "capture-01.dcm")
    assert more.Rows - complete.Rows == (5 - 3) * 23
    assert more.Columns == complete.Columns
    alone = _named(make_study("T1CE alone")[1], "capture-01.dcm")
    assert alone.DerivationDescription.startswith("T1CE with contours")
