"""A model is measured on a data set by the node's own steps, voxel for voxel in place; nothing goes missing unsaid."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.labels import LABELS, Role
from models.package import ModelPackage, Refinement
from models.training.dataset.dataset import Dataset
from models.training.dataset.manifest import Annotator, DatasetBroken, Split
from models.training.evaluation.evaluate_dataset import Compared, Measured, measure_dataset
from pipeline.normalise import ADC_SCALE

CPU = torch.device("cpu")
BALL = ((20.0, 24.0, 14.0), 5.0)
OTHER = ((12.0, 16.0, 27.0), 3.0)
NAMES = tuple(label.name for label in LABELS)


def nothing_to_see(_: Compared) -> None:
    """Look away."""


def measured(package: ModelPackage, dataset: Dataset, split: Split | None = Split.TEST) -> Measured:
    return measure_dataset(package, dataset, split, CPU, nothing_to_see)


@pytest.mark.usefixtures("high_adc_network")
def test_what_is_there_is_found_where_it_is(
    toy_dataset: Callable[..., Dataset], toy_case: Callable[..., object], make_package: Callable[..., ModelPackage]
) -> None:
    """The model's grid is another one than the data set's, so a swapped or mirrored axis would show."""
    seen: list[Compared] = []
    dataset = toy_dataset(toy_case((BALL, OTHER)))
    (case,) = measure_dataset(make_package(), dataset, Split.TEST, CPU, seen.append).cases
    assert [score.label for score in case.labels] == list(NAMES)
    assert case.foci == 2
    for score in case.labels:
        assert score.dice > 0.9
        assert score.hd95_mm <= 4.0  # a voxel
        assert (score.lesions.true, score.lesions.detected, score.lesions.confirmed) == (2, 2, 2)
    middle = np.argwhere(seen[0].found[0]).mean(axis=0)
    np.testing.assert_allclose(middle, np.argwhere(seen[0].truth[0]).mean(axis=0), atol=0.3)


def test_on_the_nodes_own_grid_nothing_is_sampled_again(
    toy_dataset: Callable[..., Dataset],
    toy_case: Callable[..., object],
    make_package: Callable[..., ModelPackage],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A data set from DICOM holds what `align` made; test_from_dicom.py holds that to what the node's network sees."""
    seen: list[Tensor] = []

    class Looks(nn.Module):
        def forward(self, channels: Tensor) -> Tensor:
            seen.append(channels)
            return torch.zeros_like(channels)

    monkeypatch.setattr("models.training.evaluation.evaluate_dataset.load_network", lambda _: Looks())
    dataset, package = toy_dataset(toy_case((BALL,))), make_package()
    shown = dataset.cases[0].normalised(package.channels)[None]
    measured(replace(package, spacing_mm=dataset.spacing_mm), dataset)
    assert torch.equal(seen[0], shown)
    measured(package, dataset)  # of another spacing
    assert seen[1].shape != shown.shape


def test_an_answer_is_refined_as_the_package_asks_before_it_is_measured(
    toy_dataset: Callable[..., Dataset],
    toy_case: Callable[..., object],
    make_package: Callable[..., ModelPackage],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class FindsItTooLarge(nn.Module):
        """A voxel around is taken along, with less confidence."""

        def forward(self, channels: Tensor) -> Tensor:
            bright = (channels[:, :1] * ADC_SCALE > 1300).float()
            return (6 * functional.max_pool3d(bright, 3, 1, 1) + 2 * bright - 5).expand(-1, 3, -1, -1, -1)

    monkeypatch.setattr("models.training.evaluation.evaluate_dataset.load_network", lambda _: FindsItTooLarge())
    dataset, package = toy_dataset(toy_case((BALL,))), make_package()
    labels = list(package.labels)
    labels[1] = replace(labels[1], refinement=Refinement((Role.ADC,), 2.0))
    (plain,) = measured(package, dataset).cases
    (refined,) = measured(replace(package, labels=tuple(labels)), dataset).cases
    assert refined.labels[1].dice > plain.labels[1].dice + 0.05
    assert (refined.labels[0].dice, refined.labels[2].dice) == (plain.labels[0].dice, plain.labels[2].dice)


@pytest.mark.usefixtures("high_adc_network")
def test_every_case_counts_the_missed_and_the_false(
    toy_dataset: Callable[..., Dataset], toy_case: Callable[..., object], make_package: Callable[..., ModelPackage]
) -> None:
    dataset = toy_dataset(toy_case((), (BALL,)), toy_case((BALL,), ()), toy_case((), ()))
    dice = sorted(case.labels[0].dice for case in measured(make_package(), dataset).cases)
    assert dice == [0, 0, 1]


@pytest.mark.usefixtures("high_adc_network")
def test_only_the_split_that_is_asked_for(
    toy_dataset: Callable[..., Dataset], toy_case: Callable[..., object], make_package: Callable[..., ModelPackage]
) -> None:
    dataset = toy_dataset(toy_case((BALL,)), toy_case((OTHER,), split=Split.TRAIN), toy_case((BALL, OTHER)))
    package = make_package()
    tested = [case.case_id for case in measured(package, dataset).cases]
    assert tested == [case.case_id for case in dataset.cases if case.split is Split.TEST]
    assert len(tested) == 2
    assert len(measured(package, dataset, None).cases) == 3
    with pytest.raises(DatasetBroken, match="has no case for validation"):
        measured(package, dataset, Split.VALIDATION)


@pytest.mark.usefixtures("high_adc_network")
def test_a_damaged_case_ends_no_other(
    toy_dataset: Callable[..., Dataset], toy_case: Callable[..., object], make_package: Callable[..., ModelPackage]
) -> None:
    dataset = toy_dataset(toy_case((BALL,)), toy_case((OTHER,)))
    broken = dataset.cases[0]
    (broken.folder / "channel-FLAIR.nii.gz").write_bytes(b"nothing")
    found = measured(make_package(), dataset)
    assert [case.case_id for case in found.cases] == [dataset.cases[1].case_id]
    (left_out,) = found.left_out
    assert left_out.case_id == broken.case_id
    assert "channel-FLAIR.nii.gz is missing or damaged" in left_out.why


@pytest.mark.usefixtures("high_adc_network")
def test_the_nodes_own_work_is_no_truth(
    toy_dataset: Callable[..., Dataset], toy_case: Callable[..., object], make_package: Callable[..., ModelPackage]
) -> None:
    some = {NAMES[1]: Annotator.NODE}
    dataset = toy_dataset(
        toy_case((BALL,), drawn_by=some),
        toy_case((OTHER,), drawn_by=dict.fromkeys(NAMES, Annotator.NODE)),
        toy_case((BALL, OTHER), drawn_by=dict.fromkeys(NAMES, Annotator.NOBODY)),
    )
    found = measured(make_package(), dataset)
    assert sorted(tuple(score.label for score in case.labels) for case in found.cases) == sorted(
        [(NAMES[0], NAMES[2]), NAMES]
    )
    assert sorted(each.why for each in found.left_out) == sorted(
        [
            f"the node drew {NAMES[1]} itself; nobody corrected it",
            f"the node drew {', '.join(NAMES)} itself; nobody corrected it",
        ]
    )


def test_a_data_set_of_other_labels_is_refused(
    toy_dataset: Callable[..., Dataset], toy_case: Callable[..., object], make_package: Callable[..., ModelPackage]
) -> None:
    dataset = toy_dataset(toy_case((BALL,)), labels=("WT", "enhancing_tumour"))
    with pytest.raises(DatasetBroken, match="needs adc_abnormality, flair_hyperintensity, which"):
        measured(make_package(), dataset)
