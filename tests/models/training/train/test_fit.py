"""A killed run resumes to the same weights; the best epoch is saved; a full disk leaves the last checkpoint."""

import dataclasses
import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.network import NetworkSettings
from models.training.dataset.dataset import Dataset, read_dataset
from models.training.dataset.manifest import DatasetSource, Split
from models.training.dataset.pseudonyms import Pseudonyms
from models.training.dataset.splits import Shares
from models.training.dataset.writer import DatasetWriter
from models.training.train.checkpoints import CHECKPOINT_FILE, CURVE_FILE
from models.training.train.dataset_cases import DatasetCases
from models.training.train.fit import ProgressCallback, TrainingProgress, TrainingResult, train
from models.training.train.learner import Learner, TrainingStopped, fresh_network
from models.training.train.loss import training_loss
from models.training.train.plan import Plan
from models.training.train.prepared_cases import View, prepared_cases
from models.training.train.settings import Cache, Preset, SettingsContradict, TrainSettings
from tests.support.toy_dataset import NAMES, OURS, SPACING_MM, toy_case, toy_dataset

TINY = NetworkSettings(init_filters=8, blocks_down=(1, 1), blocks_up=(1,))
SETTINGS = TrainSettings(Preset.PAPER, epochs=3, patch=0, learning_rate=3e-3, checkpoint_every=1, threads=1)
VIEW = View(OURS, NAMES, SPACING_MM)


class Killed(BaseException):
    """Stands for SIGKILL: no code that catches errors catches it."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return read_dataset(toy_dataset(tmp_path_factory.mktemp("toy") / "set", edge=16))


def run(
    dataset: Dataset,
    work: Path,
    settings: TrainSettings = SETTINGS,
    report: ProgressCallback = lambda _: None,
    resume: Path | None = None,
) -> tuple[TrainingResult, dict[str, torch.Tensor]]:
    torch.manual_seed(settings.seed)
    network = fresh_network(TINY, len(OURS), len(NAMES))
    cases = DatasetCases(
        dataset,
        dataset.of(Split.TRAIN),
        dataset.of(Split.VALIDATION),
        prepared_cases(Cache.RAM, VIEW, work),
        VIEW,
        settings,
    )
    trained = train(Plan(cases, TINY, None, settings), network, work, report, resume=resume)
    return trained, network.state_dict()


def killing(epoch: int, step: int) -> ProgressCallback:
    """Raise Killed in the report of a step, after the checkpoint of that step."""

    def report(now: TrainingProgress) -> None:
        if (now.epoch, now.step) == (epoch, step) and now.ended is None:
            raise Killed

    return report


@pytest.fixture(scope="module")
def whole(
    dataset: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TrainingResult, dict[str, torch.Tensor], Path]:
    """Return the result, weights and work folder of a run that was not interrupted."""
    work = tmp_path_factory.mktemp("whole")
    return *run(dataset, work), work


def checkpoint(work: Path) -> dict[str, object]:
    return dict(torch.load(work / CHECKPOINT_FILE, weights_only=True))


def test_training_finds_the_lesion_of_cases_that_it_never_saw(whole: tuple[TrainingResult, object, Path]) -> None:
    trained, _, work = whole
    assert [row.epoch for row in trained.curve.epochs] == [1, 2, 3]
    losses = [row.loss for row in trained.curve.epochs]
    assert losses == sorted(losses, reverse=True)
    assert trained.curve.epochs[-1].validation_dice[2] > 0.8
    assert (work / CURVE_FILE).read_text().splitlines()[0].startswith("epoch,loss,mean_dice,dice_enhancing_tumour")


@pytest.mark.parametrize(
    ("every", "epoch", "step", "last"),
    [
        (1, 1, 2, (1, 2)),
        (1, 2, 3, (2, 3)),
        (1, 2, 4, (2, 3)),
        (100, 2, 2, (1, 4)),
        (100, 3, 1, (2, 4)),
        (3, 2, 3, (2, 2)),
    ],
)
def test_a_killed_run_resumes_to_the_same_weights(
    dataset: Dataset,
    whole: tuple[TrainingResult, dict[str, torch.Tensor], Path],
    tmp_path: Path,
    every: int,
    epoch: int,
    step: int,
    last: tuple[int, int],
) -> None:
    """The run is killed in one step and resumed from the last checkpoint before it, inside an epoch or between two."""
    settings = dataclasses.replace(SETTINGS, checkpoint_every=every)
    with pytest.raises(Killed):
        run(dataset, tmp_path, settings, report=killing(epoch, step))
    steps: list[tuple[int, int]] = []

    def note(now: TrainingProgress) -> None:
        if now.ended is None:
            steps.append((now.epoch, now.step))

    resumed, weights = run(dataset, tmp_path, settings, report=note, resume=tmp_path / CHECKPOINT_FILE)
    trained, expected, work = whole
    assert resumed.curve == trained.curve
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    ours, theirs = checkpoint(tmp_path), checkpoint(work)
    assert ours["global_step"] == theirs["global_step"] == 12
    for key in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert str(ours[key]) == str(theirs[key]), key
    # The resumed run starts with the next step.
    everything = [(e, s) for e in (1, 2, 3) for s in (1, 2, 3, 4)]
    assert steps == everything[everything.index(last) + 1 :]


def test_the_best_epoch_is_kept_and_not_the_last(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A learning rate that wrecks what was learned; Dice by epoch as it is measured, and weights of each epoch's end.
    seen: dict[int, dict[str, torch.Tensor]] = {}
    real = Learner.on_validation_epoch_end
    dice = iter([0.2, 0.7, 0.7])

    def scored(self: Learner) -> None:
        real(self)
        self.validation_dice = (next(dice),) * 3
        seen[len(seen) + 1] = {name: value.clone() for name, value in self.network.state_dict().items()}

    monkeypatch.setattr(Learner, "on_validation_epoch_end", scored)
    trained, weights = run(dataset, tmp_path)
    assert trained.curve.best.epoch == 2
    assert all(torch.equal(weights[name], seen[2][name]) for name in weights)
    assert not all(torch.equal(weights[name], seen[3][name]) for name in weights)
    # A finished run can be resumed, to write its package once more.
    again, weights = run(dataset, tmp_path, resume=tmp_path / CHECKPOINT_FILE)
    assert again.curve == trained.curve
    assert all(torch.equal(weights[name], seen[2][name]) for name in weights)


def test_patience_ends_a_run_that_does_not_improve(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = iter([0.5, 0.4, 0.3, 0.6])
    monkeypatch.setattr(
        Learner, "on_validation_epoch_end", lambda self: setattr(self, "validation_dice", (next(dice),) * 3)
    )
    trained, _ = run(dataset, tmp_path, dataclasses.replace(SETTINGS, epochs=9, patience=2))
    assert len(trained.curve.epochs) == 3


def test_ctrl_c_ends_after_the_step_and_leaves_a_checkpoint(dataset: Dataset, tmp_path: Path) -> None:
    def interrupt(now: TrainingProgress) -> None:
        if (now.epoch, now.step) == (2, 2) and now.ended is None:
            signal.raise_signal(signal.SIGINT)

    trained, _ = run(dataset, tmp_path, report=interrupt)
    assert not trained.complete
    assert [row.epoch for row in trained.curve.epochs] == [1]
    assert checkpoint(tmp_path)["global_step"] == 7


@pytest.fixture
def fill_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Make every write to disk fail from the call on."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    return lambda: monkeypatch.setattr(os, "fsync", full)


def test_a_disk_that_is_full_from_the_start_stops_the_run(
    dataset: Dataset, tmp_path: Path, fill_disk: Callable[[], None]
) -> None:
    fill_disk()
    with pytest.raises(TrainingStopped, match=r"No space left on device.*Make room\.$"):
        run(dataset, tmp_path)
    assert list(tmp_path.glob(".*.part")) == []


def test_a_disk_that_fills_up_leaves_the_last_checkpoint(
    dataset: Dataset, tmp_path: Path, fill_disk: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def report(now: TrainingProgress) -> None:
        if (now.epoch, now.step) == (1, 3):
            fill_disk()

    kept = "No space left on device.*The last checkpoint is still there; make room, then go on with --resume"
    with pytest.raises(TrainingStopped, match=kept):
        run(dataset, tmp_path, report=report)
    assert list(tmp_path.glob(".*.part")) == []
    assert checkpoint(tmp_path)["global_step"] == 3
    monkeypatch.undo()
    assert len(run(dataset, tmp_path, resume=tmp_path / CHECKPOINT_FILE)[0].curve.epochs) == 3


def test_a_checkpoint_of_another_run_is_refused(
    dataset: Dataset, whole: tuple[TrainingResult, object, Path], tmp_path: Path
) -> None:
    before = whole[2] / CHECKPOINT_FILE
    with pytest.raises(SettingsContradict, match="was made with seed 1, and this run says 2"):
        run(dataset, tmp_path, dataclasses.replace(SETTINGS, seed=2), resume=before)
    damaged = tmp_path / "damaged.ckpt"
    damaged.write_bytes(before.read_bytes()[:5000])
    with pytest.raises(SettingsContradict, match="damaged"):
        run(dataset, tmp_path, resume=damaged)


def test_a_loss_that_is_no_number_stops_the_run_and_never_reaches_a_checkpoint(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def report(now: TrainingProgress) -> None:
        if (now.epoch, now.step) == (1, 2):
            monkeypatch.setattr("models.training.train.learner.training_loss", spoiled)

    def spoiled(*arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
        loss, dice = training_loss(*arguments)
        return loss * torch.nan, dice

    with pytest.raises(TrainingStopped, match="not a finite number any more, at step 3"):
        run(dataset, tmp_path, report=report)
    assert checkpoint(tmp_path)["global_step"] == 2


def test_an_empty_split_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    nothing = dataclasses.replace(dataset, cases=dataset.of(Split.TRAIN))
    with pytest.raises(SettingsContradict, match="no validation cases"):
        run(nothing, tmp_path)
    with pytest.raises(SettingsContradict, match="no training cases"):
        run(dataclasses.replace(dataset, cases=()), tmp_path)


def test_a_label_that_no_training_case_holds_is_refused(tmp_path: Path) -> None:
    names = Pseudonyms(b"k" * 32)
    writer = DatasetWriter(tmp_path / "set", DatasetSource.DICOM, OURS, NAMES, names)
    for number in range(2):
        case = toy_case(number)
        nothing = {"adc_abnormality": np.zeros(case.grid.shape, bool)}
        writer.add(dataclasses.replace(case, masks={**case.masks, **(nothing if number == 0 else {})}))
    known = {names("patient", "PATIENT-0"): Split.TRAIN, names("patient", "PATIENT-1"): Split.VALIDATION}
    writer.finish(Shares(), 1, known)
    with pytest.raises(SettingsContradict, match="None of the 1 training cases holds adc_abnormality"):
        run(read_dataset(tmp_path / "set"), tmp_path)


def test_a_checkpoint_of_an_older_version_is_resumed(
    dataset: Dataset, whole: tuple[TrainingResult, dict[str, torch.Tensor], Path], tmp_path: Path
) -> None:
    """Settings that it lacks had their defaults then, and its curve has no steps and no soft Dice."""
    content = torch.load(whole[2] / CHECKPOINT_FILE, weights_only=True)
    for name in ("clip_gradients", "average_weights", "dice_smoothing"):
        del content["plan"][name]
    del content["commands"], content["steps_of_package"]
    content["losses"] = content["losses"][:2]
    keep = content["callbacks"]["KeepCheckpoints"]
    keep["curve"] = [row[:3] for row in keep["curve"]]
    torch.save(content, tmp_path / "older.ckpt")
    trained, weights = run(dataset, tmp_path, resume=tmp_path / "older.ckpt")
    assert [row.loss for row in trained.curve.epochs] == [row.loss for row in whole[0].curve.epochs]
    assert all(torch.equal(weights[name], whole[1][name]) for name in weights)
    with pytest.raises(SettingsContradict, match=r"was made with clip_gradients 0\.0, and this run says 1\.0"):
        run(dataset, tmp_path, dataclasses.replace(SETTINGS, clip_gradients=1.0), resume=tmp_path / "older.ckpt")
