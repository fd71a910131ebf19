"""Prepared cases have the numbers that the node's network sees, and a crop depends on its index alone."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from models.labels import Role
from models.training.dataset.dataset import Dataset, read_dataset
from models.training.dataset.manifest import DatasetBroken, Split
from models.training.train.batches import ALONE, Batch, EpochLoader, ProcessRank
from models.training.train.case_crops import CaseCrops, CropBatches, CropIndex, steps_per_epoch
from models.training.train.prepared_cases import View, prepare, prepared_cases
from models.training.train.settings import Cache, Preset, TrainSettings
from pipeline.restore import restore
from tests.support.toy_dataset import (
    BRATS,
    NAMES,
    OURS,
    REGIONS,
    SPACING_MM,
    IndexCrops,
    InterruptedCrops,
    toy_case,
    toy_dataset,
)

VIEW = View(OURS, NAMES, SPACING_MM)
SETTINGS = TrainSettings(Preset.PAPER, epochs=2, patch=32, intensity=0.0, flip=False)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return read_dataset(toy_dataset(tmp_path_factory.mktemp("toy") / "set", train=5, validation=1, edge=40))


def crops(dataset: Dataset, settings: TrainSettings, view: View = VIEW) -> CaseCrops:
    return CaseCrops(dataset.of(Split.TRAIN), prepared_cases(Cache.RAM, view, Path()), view, settings, stride=2)


def test_a_prepared_case_is_what_the_node_sees_cut_to_the_head(dataset: Dataset) -> None:
    case = dataset.cases[0]
    order = (Role.T1CE, Role.ADC, Role.FLAIR)
    labels = (NAMES[2], NAMES[0])
    prepared = prepare(case, View(order, labels, SPACING_MM))
    whole, truth = case.normalised(order), torch.from_numpy(case.masks(labels))
    # Where the box stands in the case's grid, by world coordinates.
    first = np.linalg.inv(case.geometry.affine) @ np.array([*prepared.grid.origin_mm, 1.0])
    box = tuple(slice(round(at), round(at) + size) for at, size in zip(first, prepared.grid.shape, strict=False))
    assert prepared.grid.shape < case.geometry.shape
    assert torch.equal(prepared.channels, whole[(slice(None), *box)])
    assert torch.equal(prepared.masks, truth[(slice(None), *box)])
    assert prepared.masks.sum() == truth.sum()


def test_voxels_of_another_size_show_the_same_head_at_the_same_place(dataset: Dataset) -> None:
    case = dataset.cases[0]
    prepared = prepare(case, View(OURS, NAMES, 3.0))
    assert prepared.grid.spacing_mm == pytest.approx((3.0, 3.0, 3.0))
    back = restore(prepared.masks.float(), prepared.grid, case.geometry, (0.5,) * 3)
    truth = case.masks(NAMES)
    for found, there in zip(back[1:], truth[1:], strict=True):
        assert 2 * (found & there).sum() / (found.sum() + there.sum()) > 0.85


def test_a_channel_without_a_value_in_the_head_is_refused_by_name(dataset: Dataset) -> None:
    case = dataset.cases[0]

    class Spoiled(type(case)):  # type: ignore[misc]
        def volume(self, role: Role):  # type: ignore[no-untyped-def]
            volume = super().volume(role)
            return dataclasses.replace(volume, pixels=volume.pixels * np.nan) if role is Role.FLAIR else volume

    spoiled = Spoiled(case.entry, case.folder, case.channels, case.labels)
    with pytest.raises(DatasetBroken, match=f"{case.case_id}: channel FLAIR has no value inside the head"):
        prepare(spoiled, VIEW)
    with pytest.raises(DatasetBroken, match=r"has no channel or no label of the network's"):
        prepare(case, View((Role.T2,), NAMES, SPACING_MM))


@pytest.mark.parametrize("cache", [Cache.RAM, Cache.DISK])
def test_the_cache_returns_what_was_prepared(dataset: Dataset, tmp_path: Path, cache: Cache) -> None:
    kept = prepared_cases(cache, VIEW, tmp_path / "cache")
    for case in dataset.cases[:2]:
        expected = prepare(case, VIEW)
        for again in (kept(case), kept(case)):
            assert torch.equal(again.channels, expected.channels)
            assert torch.equal(again.masks, expected.masks)
            assert np.allclose(again.grid.affine, expected.grid.affine)
    # Another view of the same case is another thing to keep.
    other = prepared_cases(cache, View(OURS[::-1], NAMES, SPACING_MM), tmp_path / "cache")(dataset.cases[0])
    assert torch.equal(other.channels.flip(0), prepare(dataset.cases[0], VIEW).channels)
    if cache is Cache.DISK:
        assert len(list((tmp_path / "cache").iterdir())) == 3


def test_a_crop_follows_from_its_index_alone(dataset: Dataset) -> None:
    settings = dataclasses.replace(SETTINGS, flip=True, intensity=0.1, foreground=0.5)
    one, other = crops(dataset, settings), crops(dataset, settings)
    indices = [CropIndex(epoch, position, position % 5) for epoch in range(2) for position in range(5)]
    forward = [one[index] for index in indices]
    backward = [other[index] for index in reversed(indices)][::-1]
    assert all(equal(a, b) for a, b in zip(forward, backward, strict=True))
    assert not equal(one[CropIndex(0, 0, 0)], one[CropIndex(1, 0, 0)])
    assert not equal(one[CropIndex(0, 0, 0)], one[CropIndex(0, 5, 0)])


def equal(one: Batch, other: Batch) -> bool:
    return all(torch.equal(mine, theirs) for mine, theirs in zip(one, other, strict=True))


def test_images_and_masks_stay_together(dataset: Dataset) -> None:
    """Inside each mask its own channel is bright and around it dark, wherever a crop is cut and if it is mirrored."""
    settings = dataclasses.replace(SETTINGS, flip=True, intensity=0.1, foreground=1.0)
    channel_of = {NAMES[0]: OURS.index(Role.T1CE), NAMES[1]: OURS.index(Role.ADC), NAMES[2]: OURS.index(Role.FLAIR)}
    source = crops(dataset, settings)
    for position in range(10):
        channels, masks, _ = source[CropIndex(0, position, position % 5)]
        assert channels.shape[1:] == masks.shape[1:] == (32, 32, 32)
        assert masks.any()
        for mask, label in zip(masks.bool(), NAMES, strict=True):
            channel = channels[channel_of[label]]
            inside, around = channel[mask], channel[~mask]
            assert not mask.any() or float(inside.min()) > float(around.max()) - 0.1


def test_adc_is_never_scaled_or_shifted(dataset: Dataset) -> None:
    plain = crops(dataset, SETTINGS)[CropIndex(0, 0, 0)][0]
    varied = crops(dataset, dataclasses.replace(SETTINGS, intensity=0.3))[CropIndex(0, 0, 0)][0]
    adc = OURS.index(Role.ADC)
    assert torch.equal(plain[adc], varied[adc])
    assert all(not torch.equal(plain[other], varied[other]) for other in range(3) if other != adc)


def loader(crops: CaseCrops, cases: int, settings: TrainSettings, rank: ProcessRank = ALONE) -> EpochLoader:
    """Return the loader of one of several processes."""
    weights = (1.0,) * cases
    steps = steps_per_epoch(weights, settings, rank.processes)
    return EpochLoader(steps, CropBatches(crops, weights, settings, rank))


def handed_out(loader: EpochLoader, most: int = 10**6) -> list[tuple[int, ...]]:
    found: list[tuple[int, ...]] = []
    if most == 0:
        return found
    for batch in loader:
        found += [tuple(row) for row in batch.channels.tolist()]
        if (most := most - 1) == 0:
            break
    return found


def test_each_epoch_has_every_case_in_an_order_of_its_own() -> None:
    seven = loader(IndexCrops(), 7, SETTINGS)
    first, second = handed_out(seven), handed_out(seven)
    assert [sorted(case for *_, case in epoch) for epoch in (first, second)] == [list(range(7))] * 2
    assert [case for *_, case in first] != [case for *_, case in second]
    assert ({epoch for epoch, *_ in first}, {epoch for epoch, *_ in second}) == ({0}, {1})


@pytest.mark.parametrize("stop", [0, 1, 4, 5])
def test_a_loader_resumes_where_another_stopped(stop: int) -> None:
    settings = dataclasses.replace(SETTINGS, batch=2, crops_per_case=2)
    whole = loader(IndexCrops(), 5, settings)
    expected = [handed_out(whole), handed_out(whole), handed_out(whole)]
    broken = loader(IndexCrops(), 5, settings)
    handed_out(broken)
    before = handed_out(broken, most=stop)
    resumed = loader(IndexCrops(), 5, settings)
    resumed.load_state_dict(broken.state_dict())
    after = handed_out(resumed)
    if stop in (0, 5):  # between two epochs
        assert (before, after) == ([], expected[1]) if stop == 0 else (expected[1], expected[2])
    else:
        assert before + after == expected[1]
        assert handed_out(resumed) == expected[2]


def test_processes_share_an_epoch_without_gaps() -> None:
    settings = dataclasses.replace(SETTINGS, batch=2)
    ranks = [loader(IndexCrops(), 9, settings, ProcessRank(rank, 2)) for rank in range(2)]
    assert [len(each) for each in ranks] == [3, 3]
    found = [handed_out(each) for each in ranks]
    everything = sorted(index for rank in found for index in rank)
    assert len(set(everything)) == 12  # 9 and 3 that fill up the last step, as crops of their own
    assert {case for *_, case in everything} == set(range(9))
    # Step by step the processes together see what one with twice the batch sees.
    one = handed_out(loader(IndexCrops(), 9, dataclasses.replace(SETTINGS, batch=4)))
    together = [index for step in range(3) for rank in found for index in rank[2 * step : 2 * step + 2]]
    assert together == one


def test_workers_ignore_an_interrupt_of_the_whole_terminal() -> None:
    settings = dataclasses.replace(SETTINGS, workers=1)
    assert len(handed_out(loader(InterruptedCrops(), 5, settings))) == 5


def test_regions_of_toy_brats_cases_lie_inside_each_other() -> None:
    case = toy_case(0, BRATS, REGIONS)
    assert set(case.masks) == set(REGIONS)
    assert not (case.masks["ET"] & ~case.masks["TC"]).any()
    assert not (case.masks["TC"] & ~case.masks["WT"]).any()
