"""Channels are dropped at random but never all, and the network is told which are there."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from models.training.dataset.dataset import Dataset, read_dataset
from models.training.dataset.manifest import Split
from models.training.train.case_crops import CaseCrops, CropIndex
from models.training.train.channel_dropout import keep_channels
from models.training.train.measured_subsets import absent_from, measured_subsets, smaller_subsets
from models.training.train.prepared_cases import View, prepared_cases
from models.training.train.settings import Cache, Preset, TrainSettings
from tests.support.toy_dataset import NAMES, OURS, SPACING_MM, toy_dataset

ADC, FLAIR, T1CE = OURS
SETTINGS = TrainSettings(Preset.PAPER, epochs=1, patch=0, flip=True, intensity=0.1)


def draws(present: tuple[bool, ...], share: float) -> list[tuple[bool, ...]]:
    generator = np.random.default_rng(5)
    return [tuple(keep_channels(torch.tensor(present), share, generator).tolist()) for _ in range(400)]


def test_every_choice_but_none_and_all_is_dropped_equally_often() -> None:
    seen = draws((True, True, True), 0.35)
    assert len(set(seen)) == 7
    assert (False, False, False) not in seen
    complete = seen.count((True, True, True))
    assert complete == pytest.approx(0.65 * 400, abs=30)
    assert all(seen.count(choice) > 8 for choice in set(seen))


def test_what_a_case_lacks_stays_absent_and_its_last_channel_stays() -> None:
    assert set(draws((True, False, True), 0.9)) == {(True, False, True), (True, False, False), (False, False, True)}
    assert set(draws((False, True, False), 1.0)) == {(False, True, False)}
    assert set(draws((True, True, True), 0.0)) == {(True, True, True)}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return read_dataset(toy_dataset(tmp_path_factory.mktemp("toy") / "set", train=2, validation=1, edge=16))


def crops(dataset: Dataset, settings: TrainSettings, presence: bool = True) -> CaseCrops:
    view = View(OURS, NAMES, SPACING_MM, presence)
    return CaseCrops(dataset.of(Split.TRAIN), prepared_cases(Cache.RAM, view, Path()), view, settings, stride=2)


def test_a_crop_loses_channels_by_its_index_alone_and_is_else_the_same(dataset: Dataset) -> None:
    dropping = dataclasses.replace(SETTINGS, drop_channels=0.6)
    plain, one, again = crops(dataset, SETTINGS, False), crops(dataset, dropping), crops(dataset, dropping)
    lost = 0
    for position in range(12):
        index = CropIndex(0, position, position % 2)
        whole, seen = plain[index], one[index]
        planes = seen.channels[3:].amax((1, 2, 3))
        assert torch.equal(planes, seen.channels[3:].amin((1, 2, 3)))
        assert torch.equal(seen.channels[:3], whole.channels * planes[:, None, None, None])
        assert torch.equal(seen.truth, whole.truth)
        assert seen.known.all()
        assert 1 <= planes.sum() <= 3
        lost += int(planes.sum() < 3)
        assert torch.equal(again[index].channels, seen.channels)
    assert 3 <= lost <= 10


def test_a_crop_of_low_resolution_has_one_coarse_channel(dataset: Dataset) -> None:
    plain, coarse = (
        crops(dataset, dataclasses.replace(SETTINGS, low_resolution=share, intensity=0.0), False) for share in (0, 1)
    )
    changed = []
    for position in range(8):
        one, other = (each[CropIndex(0, position, 0)] for each in (plain, coarse))
        assert torch.equal(one.truth, other.truth)
        (channel,) = [n for n in range(3) if not torch.equal(one.channels[n], other.channels[n])]
        changed.append(channel)
        assert other.channels[channel].std() < one.channels[channel].std()
        assert float(other.channels[channel].mean()) == pytest.approx(float(one.channels[channel].mean()), abs=0.15)
    assert len(set(changed)) > 1


def test_the_subsets_that_are_measured() -> None:
    lacking = [absent_from(subset, OURS) for subset in measured_subsets(OURS)]
    assert lacking == [(), (ADC,), (FLAIR,), (T1CE,), (ADC, FLAIR)]
    assert smaller_subsets((FLAIR, T1CE)) == ((T1CE,), (FLAIR,))
    assert measured_subsets((T1CE,)) == ((T1CE,),)
    assert measured_subsets((FLAIR, T1CE)) == ((FLAIR, T1CE), (T1CE,), (FLAIR,))
