"""A model is measured on a data set by the node's own steps; whatever is left out is named."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations, count
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.labels import PAPER_LABELS, Role
from models.package import ModelPackage, Refinement, read_package
from models.training.dataset.channel_subsets import is_reported, subset_name
from models.training.dataset.dataset import Dataset
from models.training.dataset.manifest import Annotator, DatasetBroken, Split
from models.training.evaluation.case_channels import check_without, with_fewer_channels
from models.training.evaluation.case_score import CaseScore
from models.training.evaluation.cases import Unmeasured, select_dataset_cases
from models.training.evaluation.figures import worst_cases
from models.training.evaluation.measure_case import MeasureSettings
from models.training.evaluation.measure_cases import measure_cases
from models.training.evaluation.predict import NOT_ALIGNED, segment_volumes
from models.weights import load_network
from pipeline.normalise import ADC_SCALE
from tests.support.ball_dataset import LESION_ADC, BallCase, write_ball_dataset

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

    def measure(
        package: ModelPackage,
        dataset: Dataset,
        split: Split | None = Split.TEST,
        without: Sequence[Sequence[Role]] = (),
    ) -> Result:
        selected, unmeasured = select_dataset_cases(dataset, split, package)
        cases = (*selected, *with_fewer_channels(selected, package, without))
        folder = tmp_path / f"work-{next(folders)}"
        settings = MeasureSettings(package.folder)
        found = measure_cases(cases, settings, folder, 1, lambda *_: None, lambda scores: worst_cases(scores, 1))
        return (*found.cases, *found.reduced), (*unmeasured, *found.unmeasured)

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
    dataset = write_ball_dataset(tmp_path / "set", BallCase((BALL,)), labels=("WT",))
    with pytest.raises(DatasetBroken, match="needs enhancing_tumour, adc_abnormality, flair_hyperintensity, which"):
        measured(make_package(), dataset)
    dataset = write_ball_dataset(tmp_path / "no ADC", BallCase((BALL,), lacks=(Role.ADC,)))
    with pytest.raises(DatasetBroken, match="needs ADC, which"):
        measured(make_package(), dataset)


class FindsWhatIsThere(nn.Module):
    """Finds all labels where ADC is high or, in a study without ADC, where FLAIR is bright."""

    inputs: ClassVar[list[Tensor]] = []

    def forward(self, channels: Tensor) -> Tensor:
        self.inputs.append(channels)
        has_adc = channels[:, 3:4]
        adc = (channels[:, :1] * ADC_SCALE - (LESION_ADC + 800) / 2) / 100
        flair = (channels[:, 1:2] - 3) * 10
        return torch.where(has_adc > 0, adc, flair).expand(-1, 3, -1, -1, -1)


@pytest.fixture
def without_adc(monkeypatch: pytest.MonkeyPatch) -> type[FindsWhatIsThere]:
    monkeypatch.setattr("models.training.evaluation.measure_case.load_network", lambda _: FindsWhatIsThere())
    FindsWhatIsThere.inputs.clear()
    return FindsWhatIsThere


def test_a_case_is_scored_with_what_it_has_and_on_what_it_has(
    make_package: Packages, measured: Measure, without_adc: type[FindsWhatIsThere], tmp_path: Path
) -> None:
    """An absent channel is 0 and is said to be absent; an absent label is no empty one."""
    lacks = (Role.ADC, NAMES[1])
    cases = BallCase((BALL,)), BallCase((OTHER,), lacks=lacks), BallCase((BALL, OTHER), lacks=NAMES[:2])
    dataset, package = write_ball_dataset(tmp_path / "set", *cases), make_package(optional=(Role.ADC,))
    found, left_out = measured(package, dataset)
    assert left_out == ()
    scores = {score.absent: score for score in found if len(score.labels) > 1}
    assert [label.label for label in scores[()].labels] == list(NAMES)
    assert [label.label for label in scores[Role.ADC,].labels] == [NAMES[0], NAMES[2]]
    assert all(label.dice > 0.85 for score in found for label in score.labels)
    assert sorted(len(score.labels) for score in found) == [1, 2, 3]
    absent = [channels for channels in without_adc.inputs if not channels[:, 3].any()]
    assert len(absent) == 1
    assert not absent[0][:, 0].any()
    assert (absent[0][:, 4:] == 1).all()


def test_a_case_without_t1ce_is_measured_on_the_grid_of_what_it_has(
    make_package: Packages, measured: Measure, without_adc: type[FindsWhatIsThere], tmp_path: Path
) -> None:
    dataset = write_ball_dataset(tmp_path / "set", BallCase((BALL, OTHER), lacks=(Role.T1CE,)))
    ((case,), _) = measured(make_package(optional=(Role.T1CE,)), dataset)
    assert case.absent == (Role.T1CE,)
    assert case.foci == 2
    assert all(label.dice > 0.9 for label in case.labels)
    assert not without_adc.inputs[0][:, (2, 5)].any()


def test_any_subset_of_channels_gives_finite_probabilities_in_any_order(make_package: Packages, tmp_path: Path) -> None:
    package = make_package(optional=(Role.ADC, Role.FLAIR))
    network = load_network(package)
    # A label is not refined by a channel that is absent.
    refined = tuple(replace(label, refinement=Refinement((Role.ADC,), 1.0)) for label in package.labels)
    package = replace(package, optional=package.channels, labels=refined)
    volumes = write_ball_dataset(tmp_path / "set", BallCase((BALL,))).cases[0].volumes(package.channels)
    seen = []
    for size in (1, 2, 3):
        for roles in combinations(package.channels, size):
            given = {role: volumes[role] for role in roles}
            backwards = {role: volumes[role] for role in reversed(roles)}
            found, again = (
                segment_volumes(each, package, network, NOT_ALIGNED, torch.device("cpu")).probabilities
                for each in (given, backwards)
            )
            assert torch.isfinite(found).all()
            assert torch.equal(found, again)
            seen.append(found)
    # Every channel tells, and so does its absence.
    assert all(one.shape != other.shape or not torch.equal(one, other) for one, other in combinations(seen, 2))


def test_a_channel_is_left_out_on_purpose(
    make_package: Packages, measured: Measure, without_adc: type[FindsWhatIsThere], tmp_path: Path
) -> None:
    """It is the same as a data set that never had it, down to the last bit; nothing is measured twice."""
    package = make_package(optional=(Role.ADC, Role.FLAIR))
    dataset = write_ball_dataset(tmp_path / "set", BallCase((BALL,)))
    ((whole, case), _) = measured(package, dataset, without=[(Role.ADC,)])
    assert (whole.absent, case.absent) == ((), (Role.ADC,))
    assert whole.case.case_id == case.case.case_id
    assert case.case.journal_key != whole.case.journal_key
    assert case.case.title == f"{whole.case.title}, without ADC"
    never = write_ball_dataset(tmp_path / "never", BallCase((BALL,), lacks=(Role.ADC,)))
    ((other, alone), _) = measured(package, never, without=[(Role.ADC,), (Role.FLAIR, Role.ADC), (Role.FLAIR,)])
    assert case.labels == other.labels
    assert alone.absent == (Role.ADC, Role.FLAIR)
    _, first, second, _ = without_adc.inputs
    assert torch.equal(first, second)
    with pytest.raises(ValueError, match="cannot do without T1CE; its optional channels are ADC, FLAIR"):
        check_without(package, [Role.T1CE])
    with pytest.raises(ValueError, match="does not take T2; it takes ADC, FLAIR, T1CE"):
        check_without(package, [Role.T2])


@pytest.mark.usefixtures("high_adc_network")
def test_a_case_without_a_required_channel_or_any_label_is_named(
    make_package: Packages, measured: Measure, tmp_path: Path
) -> None:
    cases = BallCase((BALL,)), BallCase((OTHER,), lacks=(Role.FLAIR,)), BallCase((BALL, OTHER), lacks=NAMES)
    dataset = write_ball_dataset(tmp_path / "set", *cases, labels=(*NAMES, "tumour_core"))
    found, left_out = measured(make_package(), dataset)
    assert len(found) == 1
    assert sorted(each.reason for each in left_out) == [
        "it has no FLAIR, which the model needs",
        "it has none of the labels of the model",
    ]


def test_subsets_of_channels_are_told_apart(make_package: Packages) -> None:
    package = make_package(optional=(Role.ADC, Role.FLAIR))
    assert subset_name((), package.channels) == "all"
    assert subset_name((Role.FLAIR, Role.ADC), package.channels) == "T1CE alone"
    assert subset_name((Role.FLAIR, Role.ADC), (*package.channels, Role.T2)) == "without ADC and FLAIR"
    enhancing, adc, _ = package.labels
    assert [is_reported(each, (Role.ADC,)) for each in (enhancing, adc)] == [True, False]
    inferred = replace(adc, inferred_from=(Role.FLAIR,))
    assert is_reported(inferred, (Role.ADC,))
    assert not is_reported(inferred, (Role.ADC, Role.FLAIR))
