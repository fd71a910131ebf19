"""Run the training loop: Lightning's, in one process or several, on any source of cases."""

import importlib.util
import logging
import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import nn

from models.malloc import keep_freed_memory
from models.training.train.checkpoints import AtomicCheckpointIO, Curve, Epoch, Interrupted, KeepCheckpoints
from models.training.train.learner import Learner, TrainingStopped
from models.training.train.plan import Plan
from models.training.train.resume import ResumePoint, open_checkpoint
from models.training.train.settings import SettingsContradict, TrainSettings


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """The progress of a run, which is reported after every step and at the end of every epoch."""

    epoch: int
    """Number of the epoch, from 1."""
    epochs: int
    step: int
    """Step in this epoch, from 1."""
    steps: int
    """Steps in this epoch."""
    seconds: float
    """Time since the run began or was resumed."""
    waiting: float
    """Share of that time in which training waited for batches."""
    ended: Epoch | None = None
    """Set at the end of an epoch, after its validation."""
    best: bool = False
    """Whether the epoch that ended has the best validation so far."""


ProgressCallback = Callable[[TrainingProgress], None]


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """The result of a training run."""

    curve: Curve
    complete: bool
    """False if Ctrl-C ended it early."""
    seconds: float
    steps: int
    """Steps of this run and of those that it resumed."""
    resumed_at_step: int
    commands: tuple[str, ...]
    """The command lines of this run and of those that it resumed."""


class _ProgressReporter(Callback):  # type: ignore[misc]
    """Reports progress, and measures how long training waits for batches."""

    def __init__(self, plan: Plan, keep: KeepCheckpoints, report: ProgressCallback) -> None:
        self._plan = plan
        self._keep = keep
        self._report = report
        self._started = self._since = time.perf_counter()
        self._waited = 0.0
        self._reported = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._started = self._since = time.perf_counter()
        self._reported = len(self._keep.curve.epochs)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._since = time.perf_counter()

    def on_train_batch_start(self, *_: object) -> None:
        self._waited += time.perf_counter() - self._since

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        self._since = time.perf_counter()
        self._send(trainer, None)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epochs = self._keep.curve.epochs
        if len(epochs) > self._reported:
            self._reported = len(epochs)
            self._send(trainer, epochs[-1])

    def _send(self, trainer: Trainer, ended: Epoch | None) -> None:
        if not trainer.is_global_zero:
            return
        seconds = time.perf_counter() - self._started
        self._report(
            TrainingProgress(
                epoch=trainer.current_epoch + 1,
                epochs=self._plan.settings.epochs,
                step=trainer.fit_loop.epoch_loop.batch_idx + 1,
                steps=int(trainer.num_training_batches),
                seconds=seconds,
                waiting=self._waited / max(seconds, 1e-9),
                ended=ended,
                best=ended is not None and bool(ended.validation_dice) and self._keep.curve.best is ended,
            )
        )


def train(
    plan: Plan, network: nn.Module, work: Path, report: ProgressCallback, command: str = "", resume: Path | None = None
) -> TrainingResult | None:
    """Train `network`, and leave it with the weights of the best epoch. Return None in all processes but the first.

    `work` gets the checkpoint (`last.ckpt`), the curve (`epochs.csv`) and the logs. `resume` is a checkpoint that fits
    the plan, or a package (see `resume.open_checkpoint`); with `minutes` 0 nothing is trained, and the network gets the
    weights that it holds. Ctrl-C ends the run after the current step. Raises SettingsContradict, TrainingStopped, and
    the errors of the source.
    """
    settings = plan.settings
    if settings.threads:
        torch.set_num_threads(settings.threads)
    keep_freed_memory()
    work.mkdir(parents=True, exist_ok=True)
    learner = Learner(plan, network)
    keep = KeepCheckpoints(work, plan.source.view.labels, settings)
    start = None
    if resume is not None:
        start = open_checkpoint(resume, plan, learner, work)
        learner.load_state_dict(start.state)
        learner.steps_of_package, keep.curve = start.steps_of_package, start.curve
    learner.commands = (*(start.commands if start is not None else ()), command)
    started = time.perf_counter()
    if start is not None and settings.minutes == 0:
        keep.load_state_dict(start.callbacks.get(keep.state_key, keep.state_dict()))
        steps, first = start.steps, True
    else:
        trainer = _fit(plan, learner, keep, report, work, start)
        steps, first = learner.steps_of_package + int(trainer.global_step), bool(trainer.is_global_zero)
    if not first:
        return None
    network.cpu().load_state_dict(keep.best_weights or learner.cpu().answering_network.state_dict())
    return TrainingResult(
        curve=keep.curve,
        complete=not keep.interrupted,
        seconds=time.perf_counter() - started,
        steps=steps,
        resumed_at_step=start.steps if start is not None else 0,
        commands=learner.commands,
    )


def _fit(
    plan: Plan, learner: Learner, keep: KeepCheckpoints, report: ProgressCallback, work: Path, start: ResumePoint | None
) -> Trainer:
    settings = plan.settings
    with _without_lightning_advice(), _on_interrupt(keep, settings):
        seed_everything(settings.seed, verbose=False)
        try:
            trainer = _trainer(plan, work, [keep, _ProgressReporter(plan, keep, report)])
        except (ValueError, MisconfigurationException) as exc:
            raise SettingsContradict(f"Lightning cannot train like this: {str(exc).strip().splitlines()[0]}") from exc
        try:
            trainer.fit(learner, ckpt_path=start and start.path, weights_only=True)
        except Interrupted:
            pass
        except RuntimeError as exc:
            if "deterministic" not in str(exc):
                raise
            raise SettingsContradict(f"deterministic is impossible here: {str(exc).splitlines()[0]}") from exc
        except OSError as exc:
            raise TrainingStopped(
                f"Training ended: {exc.strerror or exc}. The last checkpoint is in {work}; go on with --resume."
            ) from exc
        finally:
            learner.close_batches()
    return trainer


@contextmanager
def _without_lightning_advice() -> Iterator[None]:
    """Silence Lightning's advertisements, its advice on workers, and warnings about its own code."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for message in (
            "Checkpoint directory .* exists",
            ".*isinstance.treespec, LeafSpec.",
            "Consider setting `persistent_workers",
            ".*does not have many workers",
            "`weights_only` was not set",
            "The dirpath has changed",
        ):
            warnings.filterwarnings("ignore", message=message)
        try:
            yield
        finally:
            logger.setLevel(level)


@contextmanager
def _on_interrupt(keep: KeepCheckpoints, settings: TrainSettings) -> Iterator[None]:
    """Let Ctrl-C end the run after the current step. Several processes are ended by Lightning instead."""
    if settings.devices * settings.nodes > 1 or "LOCAL_RANK" in os.environ:
        yield
        return

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        keep.interrupted = True

    previous = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _trainer(plan: Plan, work: Path, callbacks: list[Callback]) -> Trainer:
    settings = plan.settings
    processes = settings.devices * settings.nodes
    return Trainer(
        accelerator="auto",
        devices=settings.devices,
        num_nodes=settings.nodes,
        strategy="ddp" if processes > 1 else "auto",
        max_epochs=settings.epochs,
        limit_val_batches=1.0 if plan.source.validation_cases else 0,
        precision=cast(Any, settings.precision),
        gradient_clip_val=settings.clip_gradients or None,
        deterministic=settings.deterministic,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        logger=_loggers(work),
        log_every_n_steps=max(1, min(10, plan.source.steps_per_epoch(processes))),
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _loggers(work: Path) -> list[Logger]:
    """Return loggers for tables, TensorBoard, and MLflow if it is installed and MLFLOW_TRACKING_URI is set."""
    loggers: list[Logger] = [CSVLogger(work, name="log"), TensorBoardLogger(work, name="tensorboard")]
    address = os.environ.get("MLFLOW_TRACKING_URI")
    if address and importlib.util.find_spec("mlflow") is not None:
        loggers.append(MLFlowLogger(experiment_name="glionode", run_name=work.name, tracking_uri=address))
    return loggers
