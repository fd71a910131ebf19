"""A model is measured on a data set by the node's own steps; whatever is left out is named."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.labels import PAPER_LABELS, Role
from models.package import ModelPackage, Refinement, read_package
from models.training.dataset.dataset import Dataset
from models.training.dataset.manifest import Annotator, DatasetBroken, Split
from models.training.evaluation.case_score import CaseScore
from models.training.evaluation.cases import Unmeasured, select_dataset_cases
from models.training.evaluation.figures import worst_cases
from models.training.evaluation.measure_case import MeasureSettings
from models.training.evaluation.measure_cases import measure_cases
from pipeline.normalise import ADC_SCALE
from tests.support.ball_dataset import BallCase, write_ball_dataset

BALL = ((20.0, 24.0, 14.0), 5.0)
OTHER = ((12.0, 16.0, 27.0), 3.0)
NAMES = tuple(label.name for label in PAPER_LABELS)
Result = tuple[tuple[CaseScore, ...], tuple[Unmeasured, ...]]
Measure = Callable[..., Result]
Packages = Callable[..., ModelPackage]


@pytest.fixture
def measured(tmp_path: Path) -> Measure:
    """Measure a package on a data set; return the scores and what was left out."""
    folders = count()

    def measure(package: ModelPackage, dataset: Dataset, split: Split | None = Split.TEST) -> Result:
        cases, unmeasured = select_dataset_cases(dataset, split, package)
        folder = tmp_path / f"work-{next(folders)}"
        found = measure_cases(
            cases, MeasureSettings(package.folder), folder, 1, lambda *_: None, lambda scores: worst_cases(scores, 1)
        )
        return found.cases, (*unmeasured, *found.unmeasured)

    return measure


@pytest.mark.usefixtures("high_adc_network")
def test_lesions_are_found_in_their_places(make_package: Packages, measured: Measure, tmp_path: Path) -> None:
    """The model's grid is another one than the data set's, so a swapped or mirrored axis would show."""
    dataset = write_ball_dataset(tmp_path / "set", BallCase((BALL, OTHER)))
    ((case,), _) = measured(make_package(), dataset)
    assert [score.label for score in case.labels] == list(NAMES)
    assert case.foci == 2
    for score in case.labels:
        assert score.dice > 0.9
        assert score.hd95_mm <= 4.0  # a voxel
        assert (score.lesions.true, score.lesions.detected, score.lesions.confirmed) == (2, 2, 2)


def test_on_the_nodes_own_grid_nothing_is_sampled_again(
    make_package: Packages,
    edit: Callable[[Path, str, str], None],
    measured: Measure,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A data set from DICOM holds what `align` made; test_from_dicom.py holds that to what the node's network sees."""
    inputs: list[Tensor] = []

    class KeepsInput(nn.Module):
        def forward(self, channels: Tensor) -> Tensor:
            inputs.append(channels)
            return torch.zeros_like(channels)

    monkeypatch.setattr("models.training.evaluation.measure_case.load_network", lambda _: KeepsInput())
    dataset, package = write_ball_dataset(tmp_path / "set", BallCase((BALL,))), make_package()
    expected = dataset.cases[0].normalised(package.channels)[None]
    measured(package, dataset)  # of another spacing
    assert inputs[0].shape != expected.shape
    edit(package.folder, f"spacing_mm = {package.spacing_mm}", f"spacing_mm = {dataset.spacing_mm}")
    measured(read_package(package.folder), dataset)
    assert torch.equal(inputs[1], expected)


def test_an_output_is_refined_as_the_package_asks_before_it_is_measured(
    make_package: Packages, measured: Measure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FindsItTooLarge(nn.Module):
        """Find the lesion and, with less confidence, a voxel around it."""

        def forward(self, channels: Tensor) -> Tensor:
            bright = (channels[:, :1] * ADC_SCALE > 1300).float()
            return (6 * functional.max_pool3d(bright, 3, 1, 1) + 2 * bright - 5).expand(-1, 3, -1, -1, -1)

    monkeypatch.setattr("models.training.evaluation.measure_case.load_network", lambda _: FindsItTooLarge())
    dataset, package = write_ball_dataset(tmp_path / "set", BallCase((BALL,))), make_package()
    ((plain,), _) = measured(package, dataset)
    labels = list(package.labels)
    labels[1] = replace(labels[1], refinement=Refinement((Role.ADC,), 2.0))
    refining = replace(package, labels=tuple(labels))
    monkeypatch.setattr("models.training.evaluation.measure_case.read_package", lambda _: refining)
    ((refined,), _) = measured(package, dataset)
    assert refined.labels[1].dice > plain.labels[1].dice + 0.05
    assert (refined.labels[0].dice, refined.labels[2].dice) == (plain.labels[0].dice, plain.labels[2].dice)


@pytest.mark.usefixtures("high_adc_network")
def test_missed_and_false_lesions_count(make_package: Packages, measured: Measure, tmp_path: Path) -> None:
    dataset = write_ball_dataset(tmp_path / "set", BallCase((), (BALL,)), BallCase((BALL,), ()), BallCase((), ()))
    dice = sorted(case.labels[0].dice for case in measured(make_package(), dataset)[0])
    assert dice == [0, 0, 1]


@pytest.mark.usefixtures("high_adc_network")
def test_only_the_split_that_is_asked_for(make_package: Packages, measured: Measure, tmp_path: Path) -> None:
    dataset = write_ball_dataset(
        tmp_path / "set", BallCase((BALL,)), BallCase((OTHER,), split=Split.TRAIN), BallCase((BALL, OTHER))
    )
    package = make_package()
    tested = [score.case.case_id for score in measured(package, dataset)[0]]
    assert tested == [case.case_id for case in dataset.cases if case.split is Split.TEST]
    assert len(tested) == 2
    assert len(measured(package, dataset, None)[0]) == 3
    with pytest.raises(DatasetBroken, match="has no case for validation"):
        measured(package, dataset, Split.VALIDATION)


@pytest.mark.usefixtures("high_adc_network")
def test_a_damaged_case_leaves_the_others(make_package: Packages, measured: Measure, tmp_path: Path) -> None:
    dataset = write_ball_dataset(tmp_path / "set", BallCase((BALL,)), BallCase((OTHER,)))
    broken = dataset.cases[0]
    (broken.folder / "channel-FLAIR.nii.gz").write_bytes(b"nothing")
    cases, left_out = measured(make_package(), dataset)
    assert [score.case.case_id for score in cases] == [dataset.cases[1].case_id]
    (unmeasured,) = left_out
    assert unmeasured.case.case_id == broken.case_id
    assert "channel-FLAIR.nii.gz is missing or damaged" in unmeasured.reason


@pytest.mark.usefixtures("high_adc_network")
def test_labels_that_the_node_drew_are_left_out(make_package: Packages, measured: Measure, tmp_path: Path) -> None:
    some = {NAMES[1]: Annotator.NODE}
    dataset = write_ball_dataset(
        tmp_path / "set",
        BallCase((BALL,), drawn_by=some),
        BallCase((OTHER,), drawn_by=dict.fromkeys(NAMES, Annotator.NODE)),
        BallCase((BALL, OTHER), drawn_by=dict.fromkeys(NAMES, Annotator.NOBODY)),
    )
    cases, left_out = measured(make_package(), dataset)
    assert sorted(tuple(score.label for score in case.labels) for case in cases) == sorted(
        [(NAMES[0], NAMES[2]), NAMES]
    )
    assert sorted(each.reason for each in left_out) == sorted(
        [
            f"the node drew {NAMES[1]} itself; nobody corrected it",
            f"the node drew {', '.join(NAMES)} itself; nobody corrected it",
        ]
    )


def test_a_data_set_of_other_labels_is_refused(make_package: Packages, measured: Measure, tmp_path: Path) -> None:
    dataset = write_ball_dataset(tmp_path / "set", BallCase((BALL,)), labels=("WT", "enhancing_tumour"))
    with pytest.raises(DatasetBroken, match="needs adc_abnormality, flair_hyperintensity, which"):
        measured(make_package(), dataset)
