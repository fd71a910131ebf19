"""Synthetic heads mixed into the cases of a data set."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from models.labels import Role
from models.network import NetworkSettings
from models.training.dataset.dataset import read_dataset
from models.training.dataset.manifest import Split
from models.training.synthetic.samples import SampleSettings
from models.training.train.batches import ALONE, Batch
from models.training.train.dataset_cases import DatasetCases
from models.training.train.experiment import Experiment, describe, run_experiment
from models.training.train.mixed_cases import MixedBatches, MixedCases, mix
from models.training.train.prepared_cases import View, prepared_cases
from models.training.train.settings import Cache, Preset, SettingsContradict, TrainSettings
from tests.support.toy_dataset import NAMES, OURS, SPACING_MM, toy_dataset

TINY = NetworkSettings(init_filters=8, blocks_down=(1, 1), blocks_up=(1,))
SETTINGS = TrainSettings(
    Preset.PAPER, epochs=2, patch=0, learning_rate=3e-3, checkpoint_every=1, threads=1, synthetic_share=0.5
)
COARSE = SampleSettings(spacing_mm=SPACING_MM, patch=16, whole=1.0, stride=TINY.stride, head_spacing_mm=SPACING_MM)


class Numbered:
    """Batches that are a letter's code, the epoch and the step."""

    def __init__(self, letter: str, steps: int) -> None:
        self._letter = letter
        self._steps = steps

    def __call__(self, epoch: int, step: int) -> Iterator[Batch]:
        for number in range(step, self._steps):
            yield Batch(torch.tensor([ord(self._letter), epoch, number]), torch.zeros(1), torch.zeros(1))


def drawn(epoch: int, step: int = 0, crops: int = 6, heads: int = 3) -> list[tuple[str, int]]:
    batches = MixedBatches(Numbered("c", crops), crops, Numbered("h", heads), heads, seed=1)
    return [(chr(batch.channels[0]), int(batch.channels[2])) for batch in batches(epoch, step)]


def cases(folder: Path, view: View, settings: TrainSettings = SETTINGS) -> DatasetCases:
    dataset = read_dataset(toy_dataset(folder / "set", edge=16))
    splits = (dataset.of(Split.TRAIN), dataset.of(Split.VALIDATION))
    return DatasetCases(dataset, *splits, prepared_cases(Cache.RAM, view, folder), view, settings)


def with_coarse_heads(source: DatasetCases, _network: NetworkSettings = TINY) -> MixedCases:
    """Mix in heads of a few voxels, which are made quickly."""
    return MixedCases(*(getattr(source, each.name) for each in dataclasses.fields(source)), COARSE)


def test_an_epoch_has_every_crop_once_and_the_heads_between_them() -> None:
    first, second = drawn(epoch=0), drawn(epoch=1)
    for batches in (first, second):
        assert [number for letter, number in batches if letter == "c"] == list(range(6))
        assert [number for letter, number in batches if letter == "h"] == list(range(3))
    assert [letter for letter, _ in first] != [letter for letter, _ in second]


@pytest.mark.parametrize("step", range(10))
def test_an_interrupted_epoch_goes_on_where_it_ended(step: int) -> None:
    assert drawn(epoch=2, step=step) == drawn(epoch=2)[step:]


@pytest.mark.parametrize(("share", "steps"), [(0.5, 8), (0.2, 5), (0.75, 16), (0.01, 5)])
def test_the_share_is_that_of_all_steps(tmp_path: Path, share: float, steps: int) -> None:
    settings = dataclasses.replace(SETTINGS, synthetic_share=share)
    mixed = mix(cases(tmp_path, View(OURS, NAMES, SPACING_MM), settings), TINY)
    assert mixed.steps_per_epoch(processes=1) == steps
    assert len(mixed.batches(ALONE, TINY.stride, 0)) == steps


def first_head(folder: Path, view: View) -> Batch:
    """Return the first batch of a mixture that is larger than the data set's 16 voxels cubed: a head."""
    batches = with_coarse_heads(cases(folder, view)).batches(ALONE, TINY.stride, 0)
    return next(batch for batch in batches if batch[0].shape[2:] != (16, 16, 16))


def test_heads_have_the_channels_and_labels_of_the_data_set_in_its_order(tmp_path: Path) -> None:
    channels, fractions, _ = first_head(tmp_path / "all", View(OURS, NAMES, SPACING_MM))
    view = View((Role.T1CE, Role.ADC), (NAMES[2], NAMES[0]), SPACING_MM)
    of_view = first_head(tmp_path / "some", view)  # the same head: it has the same seed
    assert channels.shape[1] == len(OURS)
    torch.testing.assert_close(of_view[0], channels[:, [OURS.index(role) for role in view.channels]])
    torch.testing.assert_close(of_view[1], fractions[:, [2, 0]])


def test_channels_and_labels_that_heads_do_not_have_are_absent_from_them(tmp_path: Path) -> None:
    """And not empty: the presence planes say so, and the loss does not count them."""
    plain = first_head(tmp_path / "plain", View(OURS, NAMES, SPACING_MM))
    more = first_head(tmp_path / "more", View((Role.T2, *OURS), ("necrosis", *NAMES), SPACING_MM, presence=True))
    torch.testing.assert_close(more.channels[:, 1:4], plain.channels)
    assert not more.channels[:, 0].any()
    assert more.channels[0, 4:].mean((1, 2, 3)).tolist() == [0, 1, 1, 1]
    torch.testing.assert_close(more.truth[:, 1:], plain.truth)
    assert more.known.tolist() == [[False, True, True, True]]


def test_a_network_without_a_channel_or_label_of_heads_is_refused(tmp_path: Path) -> None:
    for number, view in enumerate((View((Role.T2,), NAMES, SPACING_MM), View(OURS, ("necrosis",), SPACING_MM))):
        with pytest.raises(SettingsContradict, match="synthetic heads have the channels ADC, FLAIR, T1CE and"):
            mix(cases(tmp_path / str(number), view), TINY)


def test_a_mixture_trains_and_the_package_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = read_dataset(toy_dataset(tmp_path / "set", edge=16))
    monkeypatch.setattr("models.training.train.experiment.mix", with_coarse_heads)
    package = describe(dataset, TINY, SPACING_MM, SETTINGS, tmp_path / "package")
    experiment = Experiment(dataset, SETTINGS, package, tmp_path / "work", "glionode pretrain ...")
    (outcome,) = run_experiment(experiment, lambda _: None, lambda _: None)
    assert outcome.trained.steps == 2 * 8
    text = (outcome.package.folder / "model.toml").read_text()
    assert 'trained_on = "data set (dicom) and synthetic heads"' in text
    assert 'synthetic_share = "0.5"' in text


def test_heads_alone_cannot_be_mixed(tmp_path: Path) -> None:
    package = describe(COARSE, TINY, SPACING_MM, SETTINGS, tmp_path / "package")
    experiment = Experiment(COARSE, SETTINGS, package, tmp_path / "work", "glionode pretrain ...")
    with pytest.raises(SettingsContradict, match="mixes heads into a data set"):
        run_experiment(experiment, lambda _: None, lambda _: None)
