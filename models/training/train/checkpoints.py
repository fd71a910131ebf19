"""Checkpoints of a run, its learning curve and its best epoch."""

import csv
import io
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from models.training.train.learner import Learner, TrainingStopped, mean_of_known
from models.training.train.settings import TrainSettings
from pipeline.atomic_write import write_file

CHECKPOINT_FILE, CURVE_FILE = "last.ckpt", "epochs.csv"


@dataclass(frozen=True, slots=True)
class Epoch:
    """One point of the learning curve."""

    epoch: int
    """Number of the epoch, from 1."""
    loss: float
    """Mean over the steps of the epoch."""
    validation_dice: tuple[float, ...]
    """By label; empty if nothing was validated."""
    step: int = 0
    """Steps of the run up to here, with those of the runs that it resumes; 0 in older checkpoints."""
    learning_rate: float = 0.0
    soft_dice: tuple[float, ...] = ()
    """By label, mean over the training steps of the epoch."""

    @property
    def mean_dice(self) -> float:
        """Mean validation Dice of the labels that were validated, by which the best epoch is chosen; 0 if none was."""
        return mean_of_known(self.validation_dice)


@dataclass(frozen=True, slots=True)
class Curve:
    """All epochs of a run so far."""

    epochs: tuple[Epoch, ...] = ()

    def followed_by(self, row: Epoch) -> "Curve":
        """Return the curve with one more epoch, in place of an unfinished one of the same number."""
        return Curve((*(before for before in self.epochs if before.epoch < row.epoch), row))

    @property
    def best(self) -> Epoch | None:
        """The earliest of the epochs with the highest mean validation Dice, or the last one if none was validated."""
        validated = [epoch for epoch in self.epochs if epoch.validation_dice]
        return max(validated or self.epochs[-1:], key=lambda epoch: epoch.mean_dice, default=None)

    def epochs_without_gain(self) -> int:
        """Return how many epochs have passed since the best."""
        return self.epochs[-1].epoch - self.best.epoch if self.best is not None else 0


class Interrupted(Exception):
    """Ctrl-C or the time limit ended the run; its last step is in the checkpoint."""


class AtomicCheckpointIO(TorchCheckpointIO):  # type: ignore[misc]
    """Writes Lightning's checkpoints through `write_whole`."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint, or raise TrainingStopped and leave the one before."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_whole(Path(path), buffer.getbuffer())


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Replace the file at `path` by `content`; if that fails it stays as it was. Raises TrainingStopped."""
    try:
        write_file(path, content)
    except OSError as exc:
        there = path.with_name(CHECKPOINT_FILE).is_file()
        kept = "The last checkpoint is still there; make room, then go on with --resume" if there else "Make room"
        raise TrainingStopped(f"{path} cannot be written ({exc.strerror}). {kept}.") from exc


class KeepCheckpoints(Callback):  # type: ignore[misc]
    """Writes the last step, keeps the curve and the best weights, and ends the run when it is time."""

    def __init__(self, work: Path, labels: tuple[str, ...], settings: TrainSettings) -> None:
        self._work = work
        self._labels = labels
        self._settings = settings
        self.curve = Curve()
        self.best_weights: dict[str, Tensor] = {}
        """The network after the epoch of the best validation, on the CPU; empty if nothing was validated."""
        self.interrupted = False

    def state_dict(self) -> dict[str, Any]:
        """Return the curve in plain values, and the best weights."""
        rows = [
            [list(value) if isinstance(value, tuple) else value for value in astuple(row)] for row in self.curve.epochs
        ]
        return {"curve": rows, "best_weights": self.best_weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the curve and the best weights."""
        rows: list[list[Any]] = [
            [tuple(value) if isinstance(value, list) else value for value in row] for row in state_dict["curve"]
        ]
        self.curve = Curve(tuple(Epoch(*row) for row in rows))
        self.best_weights = state_dict["best_weights"]

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        """Write a checkpoint inside an epoch: at intervals, and before the run ends early."""
        assert isinstance(pl_module, Learner)
        if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            return  # the end of the epoch writes one
        stop = self.interrupted or pl_module.is_out_of_time()
        if stop and not pl_module.is_validated:
            self._add_epoch(trainer, pl_module)
        if stop or trainer.global_step % self._settings.checkpoint_every == 0:
            pl_module.epoch_means()  # numbers that are not finite never get into a checkpoint
            trainer.save_checkpoint(self._work / CHECKPOINT_FILE)
        if stop:
            raise Interrupted

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Extend the curve after validation, write a checkpoint, and decide whether to go on."""
        assert isinstance(pl_module, Learner)
        row = self._add_epoch(trainer, pl_module)
        if row.validation_dice and self.curve.best is row:
            state = pl_module.answering_network.state_dict()
            self.best_weights = {name: value.detach().cpu().clone() for name, value in state.items()}
        trainer.save_checkpoint(self._work / CHECKPOINT_FILE)
        if self.interrupted or pl_module.is_out_of_time():
            raise Interrupted
        if self._settings.patience and self.curve.epochs_without_gain() >= self._settings.patience:
            trainer.should_stop = True

    def _add_epoch(self, trainer: Trainer, learner: Learner) -> Epoch:
        loss, soft_dice = learner.epoch_means()
        row = Epoch(
            epoch=self._epochs_before(learner) + trainer.current_epoch + 1,
            loss=loss,
            validation_dice=learner.validation_dice,
            step=learner.steps_done,
            learning_rate=learner.learning_rate(),
            soft_dice=soft_dice,
        )
        self.curve = self.curve.followed_by(row)
        if trainer.is_global_zero:
            write_whole(self._work / CURVE_FILE, curve_csv(self.curve, self._labels).encode())
        return row

    def _epochs_before(self, learner: Learner) -> int:
        return -(-learner.steps_of_package // self._settings.steps_per_epoch)


def curve_csv(curve: Curve, labels: tuple[str, ...]) -> str:
    """Return the curve as a table; columns of validation are left out if nothing was validated."""
    validated = any(row.validation_dice for row in curve.epochs)
    dice = ("mean_dice", *(f"dice_{label}" for label in labels)) if validated else ()
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("epoch", "loss", *dice, "step", "learning_rate", *(f"soft_dice_{label}" for label in labels)))
    for row in curve.epochs:
        measured = (row.loss, *((row.mean_dice, *row.validation_dice) if validated else ()))
        numbers = (*(f"{number:.6f}" for number in measured), row.step, f"{row.learning_rate:.4g}")
        writer.writerow((row.epoch, *numbers, *(f"{number:.6f}" for number in row.soft_dice)))
    return out.getvalue()


def read_curve(path: Path, labels: tuple[str, ...], steps_per_epoch: int) -> Curve:
    """Read the training log of a package that was trained on synthetic heads, averaged over epochs of that many steps.

    Raises KeyError, ValueError and OSError.
    """

    def epoch_of(row: dict[str, str]) -> int:
        return -(-int(row["step"]) // steps_per_epoch) or 1

    def means(rows: Iterable[dict[str, str]], name: str) -> float:
        return fmean(float(row[name]) for row in rows)

    with path.open(newline="") as lines:
        table = [row for row in csv.DictReader(lines) if row["loss"]]
    epochs = []
    for number, group in groupby(sorted(table, key=epoch_of), epoch_of):
        rows = list(group)
        soft_dice = tuple(means(rows, f"soft_dice_{label}") for label in labels)
        last = rows[-1]
        rate = float(last["learning_rate"])
        epochs.append(Epoch(number, means(rows, "loss"), (), int(last["step"]), rate, soft_dice))
    return Curve(tuple(epochs))
