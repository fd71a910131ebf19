"""Pretrain a network on synthetic heads and write it as a model package. Lightning runs the loop."""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, cast

import lightning
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.utils.data import DataLoader

from models.labels import ADC_ABNORMALITY, ENHANCING_TUMOUR, FLAIR_HYPERINTENSITY, LABELS, Role
from models.network import count_parameters
from models.package import CURVES_FILE, NORMALISATION, IntendedUse, ModelPackage, OutputLabel, Refinement
from models.training.synthetic.augment import CHANNELS
from models.training.synthetic.samples import HeadSamples
from models.training.train.lightning_warnings import without_advice
from models.training.train.malloc import keep_freed_memory
from models.training.train.synthetic_checkpoint import open_checkpoint
from models.training.train.synthetic_learner import Pretraining, PretrainSettings
from models.training.train.synthetic_log import draw_log, join_logs
from models.training.train.synthetic_thresholds import FIRST_TUNING_SEED, tune_thresholds
from models.training.train.worker_init import START_METHOD, begin_making_samples
from models.training.train.write_package import Provenance, write_package

CHECKPOINT = "last.ckpt"
REFINEMENTS = {
    ENHANCING_TUMOUR: Refinement((Role.T1CE,), 1.5),
    ADC_ABNORMALITY: Refinement((Role.ADC, Role.FLAIR), 1.5),
    FLAIR_HYPERINTENSITY: Refinement((Role.ADC, Role.FLAIR), 1.5),
}
"""What a scan's own brightness has to say to each label; chosen on heads of the learned families (docs/train.md)."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands; told after every logged step."""

    step: int
    steps: int
    loss: float
    """Mean since the last report."""
    dice: tuple[float, ...]
    """Soft Dice by label, mean over the steps since the last report, crops without lesion included."""
    seconds: float


class _Watch(Callback):  # type: ignore[misc]
    """Tells progress, and stops the run at its time limit or when a person interrupts it."""

    def __init__(self, settings: PretrainSettings, report: Callable[[Progress], None]) -> None:
        self._settings = settings
        self._report = report
        self._started = time.monotonic()
        self._recent: list[tuple[float, ...]] = []
        self.interrupted = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._started = time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        step = trainer.global_step
        seconds = time.monotonic() - self._started
        metrics = trainer.callback_metrics
        names = ("loss", *(f"soft_dice_{label.name}" for label in LABELS))
        self._recent.append(tuple(float(metrics[name]) for name in names))
        if step % self._settings.log_every == 0:
            loss, *dice = (sum(values) / len(self._recent) for values in zip(*self._recent, strict=True))
            self._recent.clear()
            self._report(Progress(step, self._settings.steps, loss, tuple(dice), seconds))
        late = self._settings.minutes is not None and seconds > 60 * self._settings.minutes
        if late or self.interrupted:
            trainer.should_stop = True

    def interrupt(self, _signal: int, _frame: FrameType | None) -> None:
        """Signal handler: finish the step, then stop."""
        self.interrupted = True


def pretrain(
    package: ModelPackage,
    settings: PretrainSettings,
    command: str,
    work: Path,
    report: Callable[[Progress], None],
    resume: Path | None = None,
) -> ModelPackage:
    """Train on synthetic heads, then write `package` (see `describe_package`) with the running mean of the weights.

    `work` gets the checkpoint (every 100 steps) and the log. Ctrl-C ends the run early and still writes the package;
    `resume` continues from a checkpoint, and with `minutes` 0 only writes what it holds; that of a narrower network is
    widened (see `widen`). It can be the folder of a model package, too. `command` is recorded.
    Raises CheckpointDoesNotFit.
    """
    torch.set_num_threads(settings.threads)
    keep_freed_memory()
    seed_everything(settings.seed, verbose=False)
    work.mkdir(parents=True, exist_ok=True)
    module = Pretraining(settings)
    start = open_checkpoint(resume, module, work, settings.seed) if resume is not None else None
    module.commands = (*(start.commands if start is not None else ()), command)
    module.steps_of_package = start.steps_of_package if start is not None else 0
    if start is not None:
        module.load_state_dict(start.state)
    watch = _Watch(settings, report)
    if start is not None and settings.minutes == 0:
        steps = start.steps
    else:
        with without_advice():
            trainer = _trainer(settings, work, watch)
        seed = settings.seed + (start.steps if start is not None else 0)
        previous = signal.signal(signal.SIGINT, watch.interrupt)
        try:
            with without_advice():
                trainer.fit(module, _loader(seed, settings), ckpt_path=start and start.path, weights_only=True)
                trainer.save_checkpoint(work / CHECKPOINT)
        finally:
            signal.signal(signal.SIGINT, previous)
        steps = module.steps_of_package + trainer.global_step
    facts = (
        ("command", "; ".join(module.commands)),
        ("trained_on", "synthetic heads only"),
        ("steps", steps),
        ("resumed_at_step", start.steps if start is not None else 0),
        ("seed", settings.seed),
        ("crop_edge", settings.samples.patch),
        ("batch", settings.samples.batch),
        ("learning_rate", settings.learning_rate),
        ("precision", settings.precision),
        ("parameters", count_parameters(module.network)),
        ("thresholds_tuned_on", f"{settings.tune_heads} heads from seed {FIRST_TUNING_SEED}"),
        ("torch", torch.__version__),
        ("lightning", lightning.__version__),
    )
    log, curves = join_logs(work), work / CURVES_FILE
    if log is not None:
        draw_log(log, tuple(label.name for label in LABELS), curves)
    network = module.mean_network.module
    if settings.tune_heads:
        package = tune_thresholds(package, network.eval(), settings.tune_heads)
    return write_package(package, network, Provenance(facts), log, figures=(curves,) if log is not None else ())


def describe_package(folder: Path, name: str, version: str, settings: PretrainSettings) -> ModelPackage:
    """The package that `pretrain` will fill: all but its weights."""
    return ModelPackage(
        name=name,
        version=version,
        intended_use=IntendedUse.DEMONSTRATION,
        summary="Trained on synthetic heads only, to show that the node works. Not for patients.",
        channels=CHANNELS,
        spacing_mm=settings.samples.spacing_mm,
        normalisation=NORMALISATION,
        window=None,
        labels=tuple(OutputLabel(label.name, 0.5, REFINEMENTS[label]) for label in LABELS),
        network=settings.network,
        weights_sha256="",
        folder=folder,
        mirror=True,  # half of the heads that it learns from are mirrored
    )


def _loader(seed: int, settings: PretrainSettings) -> DataLoader[tuple[Tensor, Tensor]]:
    # The samples come in batches already.
    samples = HeadSamples(seed, settings.samples)
    if settings.workers == 0:
        return DataLoader(samples, batch_size=None)
    return DataLoader(
        samples,
        batch_size=None,
        num_workers=settings.workers,
        prefetch_factor=4,
        multiprocessing_context=START_METHOD,
        worker_init_fn=begin_making_samples,
    )


def _trainer(settings: PretrainSettings, work: Path, watch: _Watch) -> Trainer:
    return Trainer(
        accelerator="auto",
        devices=1,
        max_steps=settings.steps,
        precision=cast(Any, settings.precision),
        callbacks=[ModelCheckpoint(dirpath=work, filename="step", save_last=True, every_n_train_steps=100), watch],
        logger=CSVLogger(work, name="log", flush_logs_every_n_steps=settings.log_every),
        log_every_n_steps=settings.log_every,
        gradient_clip_val=2.0,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
