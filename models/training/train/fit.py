"""Train on a data set, from settings to a model package. Lightning runs the loop, alone or in several processes."""

import importlib.util
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import nn

from models.network import NetworkSettings
from models.training.train.checkpoints import Curve, Epoch, Interrupted, KeepCheckpoints, WholeFiles
from models.training.train.lightning_module import Cases, CaseTraining, TrainingStopped
from models.training.train.lightning_warnings import without_advice
from models.training.train.loader import steps_in_epoch
from models.training.train.prepared_cases import View
from models.training.train.settings import SettingsContradict, TrainSettings

ORIGIN = ("parent_sha256", "channels_from", "labels_from", "dropped")
"""Names in provenance and in checkpoints: the package that fine-tuning begins with, and where its weights went."""
FREE_TO_CHANGE = ("patience", "workers", "cache", "threads", "checkpoint_every", "deterministic")
"""Settings that a run may go on with differently: they decide no number."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All that decides what a run computes."""

    view: View
    network: NetworkSettings
    window: int | None
    settings: TrainSettings
    fingerprint: str
    """Of the data set."""
    fold: int = 0
    """Which fold is left out, from 1; 0 where the data set's own splits are used."""
    origin: Mapping[str, str] = field(default_factory=dict)
    """What the network began with, by `ORIGIN`; empty where it began with nothing."""

    def signature(self) -> dict[str, str]:
        """What a checkpoint has to agree with, as names and words."""
        settings = {name: str(value) for name, value in asdict(self.settings).items() if name not in FREE_TO_CHANGE}
        return settings | {
            "channels": " ".join(self.view.channels),
            "labels": " ".join(self.view.labels),
            "spacing_mm": str(self.view.spacing_mm),
            "network": str(self.network),
            "window": str(self.window),
            "data set": self.fingerprint,
            "fold": str(self.fold),
            **{name: self.origin.get(name, "none") for name in ORIGIN},
        }


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands; told after every step."""

    epoch: int
    """From 1."""
    epochs: int
    step: int
    """In this epoch, from 1."""
    steps: int
    seconds: float
    """Since the run began or went on."""
    waiting: float
    """Share of that time in which training waited for crops."""
    ended: Epoch | None = None
    """Set at the end of an epoch, after its validation."""
    best: bool = False


Report = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run came to."""

    curve: Curve
    complete: bool
    """False where a person ended it early."""
    seconds: float


class _Watch(Callback):  # type: ignore[misc]
    """Tells progress and how long training waits; hands the plan to the checkpoints."""

    def __init__(self, plan: Plan, keep: KeepCheckpoints, report: Report) -> None:
        self._plan = plan
        self._keep = keep
        self._report = report
        self._started = self._since = time.perf_counter()
        self._waited = 0.0
        self._told = len(keep.curve.epochs)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["plan"] = self._plan.signature()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._started = self._since = time.perf_counter()
        self._told = len(self._keep.curve.epochs)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._since = time.perf_counter()

    def on_train_batch_start(self, *_: object) -> None:
        self._waited += time.perf_counter() - self._since

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        self._since = time.perf_counter()
        self._tell(trainer, None)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epochs = self._keep.curve.epochs
        if len(epochs) > self._told:
            self._told = len(epochs)
            self._tell(trainer, epochs[-1])

    def _tell(self, trainer: Trainer, ended: Epoch | None) -> None:
        if not trainer.is_global_zero:
            return
        seconds = time.perf_counter() - self._started
        self._report(
            Progress(
                epoch=trainer.current_epoch + 1,
                epochs=self._plan.settings.epochs,
                step=trainer.fit_loop.epoch_loop.batch_idx + 1,
                steps=int(trainer.num_training_batches),
                seconds=seconds,
                waiting=self._waited / max(seconds, 1e-9),
                ended=ended,
                best=ended is not None and self._keep.curve.best is ended,
            )
        )


def train(
    plan: Plan, network: nn.Module, cases: Cases, work: Path, report: Report, resume: Path | None = None
) -> Trained | None:
    """Train `network`, and leave it with the weights of the best epoch. None in all processes but the first.

    `work` gets the checkpoint (`last.ckpt`), the curve (`epochs.csv`) and the logs. `resume` is a
    checkpoint of the same plan. Ctrl-C ends the run after the step at hand. Raises SettingsContradict, TrainingStopped
    and what reading cases raises.
    """
    settings = plan.settings
    settings.check_network(plan.network)
    check_cases(cases)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    work.mkdir(parents=True, exist_ok=True)
    if resume is not None:
        check_checkpoint(resume, plan)
    module = CaseTraining(network, plan.network, plan.window, cases, plan.view, settings)
    keep = KeepCheckpoints(work, plan.view.labels, settings.checkpoint_every, settings.patience)
    with without_advice(), _on_interrupt(keep, settings):
        seed_everything(settings.seed, verbose=False)
        try:
            trainer = _trainer(plan, work, [keep, _Watch(plan, keep, report)], len(cases.train))
        except (ValueError, MisconfigurationException) as exc:
            raise SettingsContradict(f"Lightning cannot train like this: {str(exc).strip().splitlines()[0]}") from exc
        started = time.perf_counter()
        complete = True
        try:
            trainer.fit(module, ckpt_path=resume, weights_only=True)
        except Interrupted:
            complete = False
        except RuntimeError as exc:
            if "deterministic" not in str(exc):
                raise
            raise SettingsContradict(f"--deterministic cannot be had here: {str(exc).splitlines()[0]}") from exc
        except OSError as exc:
            raise TrainingStopped(
                f"Training ended: {exc.strerror or exc}. The last checkpoint is in {work}; go on with --resume."
            ) from exc
    if not trainer.is_global_zero:
        return None
    if keep.best_weights:
        network.cpu().load_state_dict(keep.best_weights)
    return Trained(keep.curve, complete, time.perf_counter() - started)


def check_cases(cases: Cases) -> None:
    """Raise SettingsContradict where there is nothing to train or to validate on."""
    for name, some in (("training", cases.train), ("validation", cases.validation)):
        if not some:
            raise SettingsContradict(
                f"The data set has no {name} cases; make it anew with a split that leaves some for {name}"
            )


def check_checkpoint(path: Path, plan: Plan) -> None:
    """Raise SettingsContradict where a checkpoint cannot be read, or is of another plan."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        made_by = dict(checkpoint["plan"])
    except Exception as exc:
        raise SettingsContradict(f"{path} is no checkpoint of training on a data set, or it is damaged") from exc
    now = plan.signature()
    for name in now:
        if made_by.get(name) != now[name]:
            raise SettingsContradict(
                f"{path} was made with {name} {made_by.get(name)}, and this run says {now[name]}; "
                "go on with what it was begun with, or begin anew without --resume"
            )


@contextmanager
def _on_interrupt(keep: KeepCheckpoints, settings: TrainSettings) -> Iterator[None]:
    """Ctrl-C asks for an end after the step at hand; several processes are ended by Lightning instead."""
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


def _trainer(plan: Plan, work: Path, callbacks: list[Callback], cases: int) -> Trainer:
    settings = plan.settings
    processes = settings.devices * settings.nodes
    return Trainer(
        accelerator="auto",
        devices=settings.devices,
        num_nodes=settings.nodes,
        strategy="ddp" if processes > 1 else "auto",
        max_epochs=settings.epochs,
        precision=cast(Any, settings.precision),
        deterministic=settings.deterministic,
        callbacks=callbacks,
        plugins=[WholeFiles()],
        logger=_loggers(work),
        log_every_n_steps=max(1, min(10, steps_in_epoch(cases, settings, processes))),
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _loggers(work: Path) -> list[Logger]:
    """Tables, TensorBoard's events, and MLflow where it is installed and the environment says where it is."""
    loggers: list[Logger] = [CSVLogger(work, name="log"), TensorBoardLogger(work, name="tensorboard")]
    address = os.environ.get("MLFLOW_TRACKING_URI")
    if address and importlib.util.find_spec("mlflow") is not None:
        loggers.append(MLFlowLogger(experiment_name="glionode", run_name=work.name, tracking_uri=address))
    return loggers
