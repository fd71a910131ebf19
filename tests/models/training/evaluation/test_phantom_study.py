"""A study with its truth is read as the node reads it, and each label is scored on the series where it is defined."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.labels import ADC_ABNORMALITY, PAPER_LABELS, Role
from models.package import ModelPackage
from models.training.dataset.writer import CaseRefused
from models.training.evaluation import measure_case
from models.training.evaluation.cases import StudyCase, Unmeasured
from models.training.evaluation.measure_case import MeasuredCase, MeasureSettings
from models.training.evaluation.overlays import Overlay, draw_overlay
from models.training.evaluation.phantom_study import read_phantom_study
from models.training.evaluation.predict import ModelOutput, segment_volumes
from pipeline.align_settings import AlignSettings
from pipeline.measure import dice
from pipeline.volume import Geometry
from tests.support.annotated_study import GEOMETRIES, WrittenStudy

CHANNELS = (Role.ADC, Role.FLAIR, Role.T1CE)


def points(mask: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Return the sorted world coordinates of a mask's voxels."""
    world = np.argwhere(mask) @ geometry.affine[:3, :3].T + geometry.affine[:3, 3]
    rounded = np.round(world, 2)
    return rounded[np.lexsort(rounded.T)]


def test_truth_stands_on_the_voxels_of_its_series(marked_study: tuple[Path, WrittenStudy]) -> None:
    folder, study = marked_study
    read = read_phantom_study(folder, CHANNELS)
    assert set(read.volumes) == set(CHANNELS)
    for label, mask in zip(PAPER_LABELS, read.truth, strict=True):
        geometry = read.volumes[label.defined_on].geometry
        assert mask.shape == geometry.shape
        expected = points(study.mask(label), GEOMETRIES[label.defined_on])
        assert len(expected) > 100
        np.testing.assert_allclose(points(mask, geometry), expected, atol=0.02)


@pytest.mark.usefixtures("finds_marks")
def test_each_label_is_scored_on_its_series_through_its_alignment(
    marked_study: tuple[Path, WrittenStudy], make_package: Callable[..., ModelPackage], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, study = marked_study
    outputs: list[ModelOutput] = []

    def watched(*given: object) -> ModelOutput:
        outputs.append(segment_volumes(*given))
        return outputs[-1]

    def drawn(volumes: object, labels: object, truth: np.ndarray, found: np.ndarray, show_errors: bool) -> Overlay:
        shown.append((truth[place], found[place]))
        return draw_overlay(volumes, labels, truth, found, show_errors)

    shown: list[tuple[np.ndarray, np.ndarray]] = []
    place = PAPER_LABELS.index(ADC_ABNORMALITY)
    monkeypatch.setattr(measure_case, "segment_volumes", watched)
    monkeypatch.setattr(measure_case, "draw_overlay", drawn)
    measured = MeasureSettings(make_package().folder, alignment=AlignSettings(resolution_mm=5))()(StudyCase(folder))
    assert isinstance(measured, MeasuredCase)
    adc = measured.score.labels[place]
    voxel_ml = GEOMETRIES[Role.ADC].voxel_volume_mm3 / 1000
    assert adc.true_ml == pytest.approx(np.count_nonzero(study.mask(ADC_ABNORMALITY)) * voxel_ml)
    # The network sees ADC where T1CE is; what it finds there has to go back by the way it came, 12 mm and 6 degrees.
    (way,) = (each for each in outputs[0].alignments if each.role is Role.ADC)
    assert way.kept
    assert adc.dice > 0.8
    # The picture is drawn where T1CE is: there, too, truth and finding lie on each other.
    assert dice(*shown[0]) > 0.8
    assert measured.overlay is not None


@pytest.fixture
def part(marked_study: tuple[Path, WrittenStudy], tmp_path: Path) -> Path:
    """Return a folder that shows the files of the study, and from which a test can take some."""
    for path in marked_study[0].iterdir():
        (tmp_path / "part" / path.name).parent.mkdir(exist_ok=True)
        (tmp_path / "part" / path.name).symlink_to(path)
    return tmp_path / "part"


def test_what_is_missing_is_named(part: Path) -> None:
    (part / "truth_flair.nii.gz").unlink()
    with pytest.raises(CaseRefused, match=r"has no truth_flair\.nii\.gz"):
        read_phantom_study(part, CHANNELS)
    (part / "dicom").unlink()
    (part / "dicom").mkdir()
    with pytest.raises(CaseRefused, match="holds 0 studies"):
        read_phantom_study(part, CHANNELS)


def test_a_truth_of_another_series_is_refused_and_not_compared(
    part: Path, make_package: Callable[..., ModelPackage]
) -> None:
    (part / "truth_adc.nii.gz").unlink()
    (part / "truth_adc.nii.gz").symlink_to(part / "truth_flair.nii.gz")
    result = MeasureSettings(make_package().folder)()(StudyCase(part))
    assert isinstance(result, Unmeasured)
    assert result.reason == "truth_adc.nii.gz does not stand on the voxels of the ADC series that was chosen."
