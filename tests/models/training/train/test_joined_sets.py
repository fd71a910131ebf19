"""Data sets of several forms are one training: a patient and a case are in it once, whatever the order of the sets."""

import itertools
import math
import tomllib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.labels import Role
from models.network import NetworkSettings
from models.package import ModelPackage
from models.training.dataset.dataset import Dataset, read_dataset
from models.training.dataset.lineage import read_lineage
from models.training.dataset.manifest import Split
from models.training.train.case_crops import epoch_crops
from models.training.train.dataset_cases import fold_cases
from models.training.train.experiment import Experiment, Outcome, describe, run_experiment
from models.training.train.joined_sets import JoinedSets, join_sets, sets_table
from models.training.train.prepared_cases import View, prepare
from models.training.train.settings import Cache, Preset, SettingsContradict, TrainSettings
from models.weights import load_network
from pipeline.presence import network_input
from tests.support.toy_dataset import BRATS, NAMES, SPACING_MM, toy_dataset

ENHANCING, ADC_ABNORMALITY, FLAIR_HYPERINTENSITY = NAMES
TINY = NetworkSettings(init_filters=8, blocks_down=(1, 1), blocks_up=(1,))
SETTINGS = TrainSettings(
    Preset.PAPER, epochs=1, patch=0, learning_rate=3e-3, threads=1, drop_channels=0.35, cache=Cache.RAM
)
FLAIR_T1CE = (Role.FLAIR, Role.T1CE)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, ...]:
    """All series; without ADC; in BraTS's form without ADC, with its regions, under another key."""
    folder = tmp_path_factory.mktemp("sets")
    toy_dataset(folder / "complete", train=2, validation=1, edge=16)
    toy_dataset(folder / "lacking", 2, 1, FLAIR_T1CE, (ENHANCING, FLAIR_HYPERINTENSITY), edge=16, first=10)
    regions = ("tumour_core", "whole_tumour", ENHANCING)
    toy_dataset(folder / "public", 2, 1, (Role.T1, *FLAIR_T1CE), regions, edge=16, first=20, key=b"o" * 32)
    return tuple(read_dataset(folder / name) for name in ("complete", "lacking", "public"))


def train(sets: JoinedSets, folder: Path) -> Outcome:
    package = describe(sets, TINY, SPACING_MM, SETTINGS, folder / "package")
    experiment = Experiment(sets, SETTINGS, package, folder / "work", "glionode pretrain ...")
    (outcome,) = run_experiment(experiment, lambda _: None, lambda _: None)
    return outcome


@pytest.fixture(scope="module")
def outcome(sets: tuple[Dataset, ...], tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return train(join_sets(sets, {"public": 2}), tmp_path_factory.mktemp("joined"))


def test_sets_of_three_forms_make_one_package_of_all_their_channels_and_labels(outcome: Outcome) -> None:
    package = outcome.package
    assert package.channels == (Role.ADC, Role.FLAIR, Role.T1, Role.T1CE)
    assert [label.name for label in package.labels] == [*NAMES, "tumour_core", "whole_tumour"]
    assert package.presence
    assert len(package.required) == 1, "a study needs one channel at least"
    provenance = tomllib.loads((package.folder / "model.toml").read_text())["provenance"]
    assert provenance["trained_on"] == "data sets (complete: dicom, lacking: dicom, public: dicom x2)"
    assert provenance["drop_channels"] == 0.35
    by_key = [(len(each.training), len(each.validation)) for each in read_lineage(package).records]
    assert sorted(by_key) == [(2, 1), (4, 2)], "patients of the public set have another key"


def test_the_card_has_the_dice_by_subset_with_the_cases_that_were_counted(outcome: Outcome) -> None:
    card = (outcome.package.folder / "MODEL_CARD.md").read_text()
    table = [line.split("|")[1:-1] for line in card.splitlines() if line.startswith(("| without", "| T1CE alone"))]
    counts = {row[0].strip(): [int(cell.strip(" *").split("(")[1].strip(")")) for cell in row[1:]] for row in table}
    assert counts["without T1"] == [1, 1, 1, 0, 0], "the complete case"
    assert counts["without ADC"] == [1, 0, 0, 1, 1], "the public case"
    assert counts["without ADC and T1"] == [3, 1, 2, 1, 1], "the lacking case, and each of the others without one more"
    assert counts["T1CE alone"] == [3, 1, 2, 1, 1]
    (alone,) = (row for row in table if row[0].strip() == "T1CE alone")
    assert ["*" in cell for cell in alone[1:]] == [False, True, True, False, True], "without FLAIR and ADC"
    assert "| public | 2 | 2 | 1 | 0 | 0 | none |" in card


def test_the_order_of_the_sets_changes_nothing(sets: tuple[Dataset, ...], outcome: Outcome, tmp_path: Path) -> None:
    again = train(join_sets(sets[::-1], {"public": 2}), tmp_path)
    assert again.package.weights_sha256 == outcome.package.weights_sha256
    assert again.subsets == outcome.subsets


def test_every_subset_of_the_channels_has_finite_probabilities(outcome: Outcome) -> None:
    """And what stands in the place of a channel that is absent changes nothing."""
    network, edge = load_network(outcome.package), 8
    channels = torch.randn(4, edge, edge, edge, generator=torch.Generator().manual_seed(1))
    seen = set()
    for present in itertools.product((False, True), repeat=4):
        other = torch.where(torch.tensor(present)[:, None, None, None], channels, torch.nan)
        with torch.no_grad():
            logits, same = (network(network_input(each, present)[None]) for each in (channels, other))
        assert torch.isfinite(logits.sigmoid()).all()
        assert torch.equal(logits, same)
        seen.add(float(logits.sum()))
    assert len(seen) == 16, "the network tells the subsets apart"


def test_a_label_that_no_validation_case_has_counts_in_no_mean(sets: tuple[Dataset, ...], tmp_path: Path) -> None:
    joined = join_sets(sets[:2], {})
    complete, lacking = joined.sets
    joined = replace(
        joined,
        sets=(replace(complete, cases=tuple(case for case in complete.cases if case.split is Split.TRAIN)), lacking),
    )
    outcome = train(joined, tmp_path)
    (epoch,) = outcome.trained.curve.epochs
    enhancing, adc, flair = epoch.validation_dice
    assert math.isnan(adc)
    assert epoch.mean_dice == pytest.approx((enhancing + flair) / 2)
    assert [each.is_measured for each in outcome.tuned] == [True, False, True]
    card = (outcome.package.folder / "MODEL_CARD.md").read_text()
    assert "| adc_abnormality | 0.5, not chosen | 0 | all | unknown | unknown | unknown |" in card


def test_a_case_says_what_it_lacks(sets: tuple[Dataset, ...]) -> None:
    view = View((Role.ADC, *FLAIR_T1CE), NAMES, SPACING_MM)
    complete, lacking = (prepare(dataset.cases[0], view) for dataset in sets[:2])
    assert (complete.present.tolist(), complete.known.tolist()) == ([True] * 3, [True] * 3)
    assert (lacking.present.tolist(), lacking.known.tolist()) == ([False, True, True], [True, False, True])
    assert not lacking.channels[0].any()
    assert not lacking.masks[1].any()
    assert lacking.masks[[0, 2]].any()
    # Where the order differs the same numbers stand at other places.
    turned = prepare(sets[1].cases[0], View(view.channels[::-1], NAMES[::-1], SPACING_MM))
    assert torch.equal(turned.channels.flip(0), lacking.channels)
    assert torch.equal(turned.masks.flip(0), lacking.masks)


def split_of(joined: JoinedSets) -> dict[str, list[Split]]:
    return {each.name: [case.split for case in each.cases] for each in joined.sets}


def test_a_patient_of_two_sets_is_in_the_split_that_was_held_out(tmp_path: Path) -> None:
    """Patient 1 trains in one set and validates in the other, by a pseudonym of the same key; the images differ."""
    toy_dataset(tmp_path / "a", train=2, validation=0, edge=16)
    toy_dataset(tmp_path / "b", train=0, validation=2, edge=20, first=1)
    joined = join_sets([read_dataset(tmp_path / name) for name in "ab"], {})
    assert Counter(split_of(joined)["a"]) == {Split.TRAIN: 1, Split.VALIDATION: 1}
    assert split_of(joined)["b"] == [Split.VALIDATION] * 2
    table = sets_table(joined)
    assert "| a | 1 | 1 | 1 | 0 | 0 | 1 from train to validation |" in table
    assert "different keys" not in table
    for train_cases, validation_cases in fold_cases(joined, 2, seed=1):
        assert not {case.patient for case in train_cases} & {case.patient for case in validation_cases}


@pytest.mark.parametrize("other_channels", [False, True])
def test_a_case_of_two_sets_is_found_by_its_images_and_used_once(tmp_path: Path, other_channels: bool) -> None:
    """Under another key it has another name. The one with more labels stays, in the split that was held out."""
    labels = NAMES[:1] if other_channels else NAMES[:2]
    roles = BRATS if other_channels else (Role.ADC, *FLAIR_T1CE)
    toy_dataset(tmp_path / "full", train=2, validation=1, edge=16)
    toy_dataset(tmp_path / "less", 0, 1, roles, labels, edge=16, first=1, key=b"o" * 32)
    datasets = [read_dataset(tmp_path / name) for name in ("full", "less")]
    for order in itertools.permutations(datasets):
        joined = join_sets(order, {})
        assert [len(each.cases) for each in joined.sets] == [3, 0]
        assert Counter(split_of(joined)["full"]) == {Split.TRAIN: 1, Split.VALIDATION: 2}
        table = sets_table(joined)
        assert "| less | 1 | 0 | 0 | 0 | 1 | none |" in table
        assert "recognised by equal images only" in table


def test_a_set_of_weight_2_is_seen_twice_and_one_of_a_half_every_other_time() -> None:
    weights = (2.0, 2.0, 1.0, 0.5, 0.5, 0.5, 0.5)
    seen = Counter[int]()
    for epoch in range(40):
        round_ = Counter(crop.case for crop in epoch_crops(epoch, weights, SETTINGS))
        assert sum(round_.values()) == 7
        assert [round_[case] for case in range(3)] == [2, 2, 1]
        seen += round_
    assert all(10 <= seen[case] <= 30 for case in range(3, 7))


def test_wrong_sets_and_weights_are_refused(sets: tuple[Dataset, ...], tmp_path: Path) -> None:
    twin = read_dataset(toy_dataset(tmp_path / "public", train=1, validation=1, edge=16))
    with pytest.raises(SettingsContradict, match="folders of the same name"):
        join_sets([*sets, twin], {})
    for weights in ({"publc": 2.0}, {"public": 0.0}):
        with pytest.raises(SettingsContradict, match="the sets are complete, lacking, public, and a weight is above 0"):
            join_sets(sets, weights)
    coarse = read_dataset(toy_dataset(tmp_path / "other", train=1, validation=1, edge=16))
    coarse = Dataset(coarse.folder, coarse.manifest.model_copy(update={"spacing_mm": 5.0}), coarse.cases)
    with pytest.raises(SettingsContradict, match=r"voxels of 4\.0 and 5\.0 mm: name spacing_mm"):
        _ = join_sets([sets[0], coarse], {}).spacing_mm


def optional_of(sets: tuple[Dataset, ...], tmp_path: Path, optional: tuple[Role, ...]) -> ModelPackage:
    package = describe(sets[0], TINY, SPACING_MM, SETTINGS, tmp_path / "package")
    experiment = Experiment(sets[0], SETTINGS, package, tmp_path / "work", "", optional=optional)
    return run_experiment(experiment, lambda _: None, lambda _: None)[0].package


def test_the_user_says_what_a_study_may_lack(sets: tuple[Dataset, ...], tmp_path: Path) -> None:
    assert optional_of(sets, tmp_path, (Role.T1CE, Role.ADC)).required == (Role.FLAIR,)
    with pytest.raises(SettingsContradict, match="--optional names every channel"):
        optional_of(sets, tmp_path / "all", (Role.ADC, *FLAIR_T1CE))
    with pytest.raises(SettingsContradict, match="--optional T2: training never showed"):
        optional_of(sets, tmp_path / "other", (Role.T2,))
