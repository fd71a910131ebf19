"""A study with its truth is read as the node reads it, and each label is scored on the series where it is defined."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from models.labels import ADC_ABNORMALITY, LABELS, Role
from models.package import ModelPackage
from models.training.dataset.writer import CaseRefused
from models.training.evaluation import measure_case
from models.training.evaluation.cases import StudyCase, Unmeasured
from models.training.evaluation.measure_case import MeasuredCase, MeasureSettings
from models.training.evaluation.overlays import Overlay, draw_lesion
from models.training.evaluation.phantom_study import read_phantom_study
from models.training.evaluation.predict import ModelOutput, segment_volumes
from pipeline.align import AlignSettings
from pipeline.measure import dice
from pipeline.volume import Geometry, Volume
from tests.support.annotated_study import GEOMETRIES, WrittenStudy

CHANNELS = (Role.ADC, Role.FLAIR, Role.T1CE)


def points(mask: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Return the sorted world coordinates of a mask's voxels."""
    world = np.argwhere(mask) @ geometry.affine[:3, :3].T + geometry.affine[:3, 3]
    rounded = np.round(world, 2)
    return rounded[np.lexsort(rounded.T)]


def test_truth_stands_on_the_voxels_of_its_series(written: tuple[Path, WrittenStudy]) -> None:
    folder, study = written
    read = read_phantom_study(folder, CHANNELS)
    assert set(read.volumes) == set(CHANNELS)
    for label, mask in zip(LABELS, read.truth, strict=True):
        geometry = read.volumes[label.defined_on].geometry
        assert mask.shape == geometry.shape
        expected = points(study.mask(label), GEOMETRIES[label.defined_on])
        assert len(expected) > 100
        np.testing.assert_allclose(points(mask, geometry), expected, atol=0.02)


@pytest.mark.usefixtures("finds_marks")
def test_each_label_is_scored_on_its_series_through_its_alignment(
    written: tuple[Path, WrittenStudy], make_package: Callable[..., ModelPackage], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, study = written
    outputs: list[ModelOutput] = []

    def watched(*given: object) -> ModelOutput:
        outputs.append(segment_volumes(*given))
        return outputs[-1]

    def drawn(volumes: Mapping[Role, Volume], labels: Sequence[str], truth: np.ndarray, found: np.ndarray) -> Overlay:
        shown.append((truth[place], found[place]))
        return draw_lesion(volumes, labels, truth, found)

    shown: list[tuple[np.ndarray, np.ndarray]] = []
    place = LABELS.index(ADC_ABNORMALITY)
    monkeypatch.setattr(measure_case, "segment_volumes", watched)
    monkeypatch.setattr(measure_case, "draw_lesion", drawn)
    measured = MeasureSettings(make_package().folder, alignment=AlignSettings(resolution_mm=5))()(StudyCase(folder))
    assert isinstance(measured, MeasuredCase)
    adc = measured.labels[place]
    voxel_ml = GEOMETRIES[Role.ADC].voxel_volume_mm3 / 1000
    assert adc.true_ml == pytest.approx(np.count_nonzero(study.mask(ADC_ABNORMALITY)) * voxel_ml)
    # The network sees ADC where T1CE is; what it finds there has to go back by the way it came, 12 mm and 6 degrees.
    (way,) = (each for each in outputs[0].alignments if each.role is Role.ADC)
    assert way.kept
    assert adc.dice > 0.8
    # The picture is drawn where T1CE is: there, too, truth and finding lie on each other.
    assert dice(*shown[0]) > 0.8
    assert measured.overlay is not None


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("truth_flair.nii.gz", "has no truth_flair.nii.gz"),
        ("dicom", "holds 0 studies"),
    ],
)
def test_what_is_missing_is_named(
    written: tuple[Path, WrittenStudy], tmp_path: Path, name: str, complaint: str
) -> None:
    folder, _ = written
    part = tmp_path / "part"
    part.mkdir()
    for path in folder.iterdir():
        if path.name != name:
            (part / path.name).symlink_to(path)
    if name == "dicom":
        (part / "dicom").mkdir()
    with pytest.raises(CaseRefused, match=complaint):
        read_phantom_study(part, CHANNELS)


def test_a_truth_of_another_series_is_refused_and_not_compared(
    written: tuple[Path, WrittenStudy], tmp_path: Path, make_package: Callable[..., ModelPackage]
) -> None:
    folder, _ = written
    part = tmp_path / "part"
    part.mkdir()
    for path in folder.iterdir():
        if path.name != "truth_adc.nii.gz":
            (part / path.name).symlink_to(path)
    (part / "truth_adc.nii.gz").symlink_to(folder / "truth_flair.nii.gz")
    result = MeasureSettings(make_package().folder)()(StudyCase(part))
    assert isinstance(result, Unmeasured)
    assert result.reason == "truth_adc.nii.gz does not stand on the voxels of the ADC series that was chosen."
