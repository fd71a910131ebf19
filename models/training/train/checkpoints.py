"""Checkpoints of a run, its best epoch and its curve. A file is written whole or not at all."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from models.training.train.lightning_module import CaseTraining, TrainingStopped
from pipeline.atomic_write import write_file

LAST, CURVE = "last.ckpt", "epochs.csv"


@dataclass(frozen=True, slots=True)
class Epoch:
    """One point of the learning curve."""

    epoch: int
    """From 1."""
    loss: float
    """Mean over its steps."""
    validation_dice: tuple[float, ...]
    """By label."""

    @property
    def mean_dice(self) -> float:
        """What the best epoch is chosen by."""
        return sum(self.validation_dice) / len(self.validation_dice)


@dataclass(frozen=True, slots=True)
class Curve:
    """All epochs of a run so far."""

    epochs: tuple[Epoch, ...] = ()

    @property
    def best(self) -> Epoch | None:
        """The earliest of those with the highest mean validation Dice."""
        return max(self.epochs, key=lambda epoch: epoch.mean_dice, default=None)

    def epochs_without_gain(self) -> int:
        """How many have passed since the best."""
        return self.epochs[-1].epoch - self.best.epoch if self.best is not None else 0


class Interrupted(Exception):
    """A person ended the run; its last step is in the checkpoint."""


class WholeFiles(TorchCheckpointIO):  # type: ignore[misc]
    """Lightning's checkpoints through `write_whole`."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write one, or raise TrainingStopped and leave the one before."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_whole(Path(path), buffer.getbuffer())


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Put `content` in place of what is at `path`, which stays where that fails. Raises TrainingStopped."""
    try:
        write_file(path, content)
    except OSError as exc:
        there = path.with_name(LAST).is_file()
        kept = "The last checkpoint is still there; make room, then go on with --resume" if there else "Make room"
        raise TrainingStopped(f"{path} cannot be written ({exc.strerror}). {kept}.") from exc


class KeepCheckpoints(Callback):  # type: ignore[misc]
    """Writes the last step and the best epoch, keeps the curve, and ends a run that does not get better."""

    def __init__(self, work: Path, labels: tuple[str, ...], every: int, patience: int) -> None:
        self._work = work
        self._labels = labels
        self._every = every
        self._patience = patience
        self.curve = Curve()
        self.best_weights: dict[str, Tensor] = {}
        """Of the network after the curve's best epoch, on the CPU."""
        self.interrupted = False

    def state_dict(self) -> dict[str, Any]:
        """The curve in plain values, and the best weights: one file holds all that belongs together."""
        rows = [(row.epoch, row.loss, list(row.validation_dice)) for row in self.curve.epochs]
        return {"curve": rows, "best_weights": self.best_weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with them."""
        self.curve = Curve(tuple(Epoch(epoch, loss, tuple(values)) for epoch, loss, values in state_dict["curve"]))
        self.best_weights = state_dict["best_weights"]

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        """Inside an epoch, every so many steps and before an interruption."""
        assert isinstance(pl_module, CaseTraining)
        if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            return  # the end of the epoch writes one
        if trainer.global_step % self._every == 0 or self.interrupted:
            pl_module.mean_loss()  # numbers that are not finite never get into a checkpoint
            trainer.save_checkpoint(self._work / LAST)
        if self.interrupted:
            raise Interrupted

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """After validation: the curve, the best weights, the checkpoint; whether to go on."""
        assert isinstance(pl_module, CaseTraining)
        row = Epoch(trainer.current_epoch + 1, pl_module.mean_loss(), pl_module.validation_dice)
        self.curve = Curve((*self.curve.epochs, row))
        if self.curve.best is row:
            state = pl_module.network.state_dict()
            self.best_weights = {name: value.detach().cpu().clone() for name, value in state.items()}
        if trainer.is_global_zero:
            write_whole(self._work / CURVE, curve_csv(self.curve, self._labels).encode())
        trainer.save_checkpoint(self._work / LAST)
        if self.interrupted:
            raise Interrupted
        if self._patience and self.curve.epochs_without_gain() >= self._patience:
            trainer.should_stop = True


def curve_csv(curve: Curve, labels: tuple[str, ...]) -> str:
    """The curve as a table."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("epoch", "loss", "mean_dice", *(f"dice_{label}" for label in labels)))
    for row in curve.epochs:
        numbers = (row.loss, row.mean_dice, *row.validation_dice)
        writer.writerow((row.epoch, *(f"{number:.6f}" for number in numbers)))
    return out.getvalue()
