"""What `glionode pretrain DATASET` and `glionode finetune` share: options, the run, what it says. Decides no number."""

import importlib.util
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress

from models.training.train.settings import Cache, Preset, SettingsContradict, TrainSettings, settings_of
from plugin.commands.terminal import FAILED, complain, progress_bar, refuse

if TYPE_CHECKING:
    from models.training.dataset.dataset import Dataset
    from models.training.train.experiment import Order, Outcome
    from models.training.train.fit import Progress as Now

_PANEL = "Training on a data set"


def _option(text: str, *names: str, low: float | None = None) -> typer.models.OptionInfo:
    return typer.Option(*names, help=text, min=low, rich_help_panel=_PANEL, show_default=False)  # type: ignore[no-any-return]


PresetOption = Annotated[
    Preset | None,
    _option("paper (Wan et al. 2024; the default) or fast (bfloat16, channels last, larger crops around lesions)."),
]
EpochsOption = Annotated[int | None, _option("Passes over the cases; 100 to pretrain, 50 to fine-tune.", low=1)]
PatienceOption = Annotated[
    int | None, _option("End after so many epochs without a better validation Dice; 0: never.", low=0)
]
FoldsOption = Annotated[
    int | None, _option("Cross-validate: so many folds over patients, a package each, and folds.csv.", low=2)
]
SpacingOption = Annotated[
    float | None, _option("Edge of the network's voxels, mm; else the package's or the data set's.", low=0.2)
]
ForegroundOption = Annotated[float | None, _option("Share of crops that are cut around a label.", low=0)]
DeterministicOption = Annotated[
    bool, _option("Only operations that give the same numbers each time.", "--deterministic")
]
DevicesOption = Annotated[int | None, _option("Training processes on this machine, one a GPU.", low=1)]
NodesOption = Annotated[int | None, _option("Machines; start the command on each by torchrun or Slurm.", low=1)]
WorkersOption = Annotated[int | None, _option("Processes that cut crops, for each training process.", low=0)]
CacheOption = Annotated[Cache | None, _option("Where normalised cases are kept between epochs: none, ram or disk.")]


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """What was asked for; None leaves it to the preset."""

    preset: Preset | None
    epochs: int | None
    patience: int | None
    batch: int | None
    patch: int | None
    foreground: float | None
    learning_rate: float | None
    precision: str | None
    seed: int
    deterministic: bool
    devices: int | None
    nodes: int | None
    workers: int | None
    cache: Cache | None
    threads: int | None

    def settings(self, epochs: int) -> TrainSettings:
        """The preset with what was asked for. Refuses contradictions with a sentence."""
        begin = settings_of(self.preset or Preset.PAPER, self.epochs or epochs)
        names = ("patience", "batch", "patch", "foreground", "learning_rate", "precision", "devices", "nodes")
        wanted = {name: getattr(self, name) for name in (*names, "workers", "cache", "threads")}
        try:
            return replace(
                begin,
                seed=self.seed,
                deterministic=self.deterministic,
                **{name: value for name, value in wanted.items() if value is not None},
            )
        except SettingsContradict as exc:
            raise refuse(f"These settings contradict each other: {exc}.") from exc


def need_lightning() -> None:
    """Refuse to go on without the extra that trains."""
    if importlib.util.find_spec("lightning") is None:
        raise refuse("Training needs Lightning, which is not installed here; install glionode[train].")


def open_dataset(folder: Path) -> "Dataset":
    """The data set in a folder; refuses with a sentence."""
    from models.training.dataset.dataset import read_dataset
    from models.training.dataset.manifest import DatasetBroken

    try:
        return read_dataset(folder)
    except DatasetBroken as exc:
        raise refuse(str(exc), FAILED) from exc


def work_folder(name: str, work: Path | None, resume: Path | None) -> Path:
    """Where checkpoints go: as asked, else where the run that goes on has them, else runs/NAME."""
    if work is None and resume is not None:
        return resume if resume.is_dir() else resume.parent
    return work or Path("runs") / name


def train(order: "Order") -> None:
    """Carry out an order, show how it goes, and say what it came to. Refuses with a sentence."""
    import torch
    from lightning.pytorch.utilities import rank_zero_only

    from models.package import PackageBroken
    from models.training.train.experiment import carry_out
    from models.training.train.lightning_module import TrainingStopped
    from models.training.train.transfer import NamesDoNotMatch
    from pipeline.errors import GlionodeError

    try:
        with _display(silent=getattr(rank_zero_only, "rank", 0) != 0) as display:
            outcomes = carry_out(order, display.report, display.begin)
    except (SettingsContradict, NamesDoNotMatch) as exc:
        raise refuse(f"{str(exc).rstrip('.')}.") from exc
    except (PackageBroken, TrainingStopped, GlionodeError) as exc:
        raise refuse(str(exc), FAILED) from exc
    except torch.OutOfMemoryError as exc:
        raise refuse(
            "The GPU has no room for this: lower --patch or --batch, or say --precision bf16-mixed. "
            f"What was trained until then is in {order.work}.",
            FAILED,
        ) from exc
    except OSError as exc:
        raise refuse(
            f"{exc.filename or order.package.folder} cannot be written: {exc.strerror or exc}. The weights are in "
            f"{order.work}; make room, then go on with --resume {order.work}.",
            FAILED,
        ) from exc
    for outcome in outcomes:
        _tell(outcome)
    if order.folds and outcomes:
        print(f"{len(outcomes)} folds: {order.package.folder / 'folds.csv'} holds their Dice, mean and deviation.")


def _tell(outcome: "Outcome") -> None:
    package, best = outcome.package, outcome.trained.curve.best
    assert best is not None
    ended = "" if outcome.trained.complete else f" It was ended in epoch {len(outcome.trained.curve.epochs) + 1}."
    print(f"Best epoch {best.epoch} of {len(outcome.trained.curve.epochs)}.{ended}")
    for each in outcome.tuned:
        print(f"{each.label}: mean Dice {each.mean_dice:.3f} on {len(each.dice)} validation cases, at {each.threshold}")
    sha = package.weights_sha256[:12]
    print(f"Wrote model {package.name} {package.version} to {package.folder} (weights sha256 {sha}...).")
    print(f"Measure it on the test cases: glionode evaluate {shlex.quote(str(package.folder))} DATASET")


class _Display:
    """How training goes: a bar on a terminal, a line at the end of each epoch elsewhere."""

    def __init__(self, bar: Progress | None, silent: bool) -> None:
        self._bar, self._silent = bar, silent
        self._task = bar.add_task("", total=1) if bar is not None else None
        self._title = ""

    def begin(self, title: str) -> None:
        """A run begins."""
        self._title = title

    def report(self, now: "Now") -> None:
        """A step or an epoch is over."""
        if self._silent:
            return
        if self._bar is not None and self._task is not None:
            words = f"{self._title}, epoch {now.epoch} of {now.epochs}"
            done = (now.epoch - 1) * now.steps + now.step
            self._bar.update(self._task, completed=done, total=now.epochs * now.steps, description=words)
        if now.ended is not None:
            best = ", the best so far" if now.best else ""
            complain(
                f"{self._title}: epoch {now.epoch} of {now.epochs}, loss {now.ended.loss:.3f}, validation Dice "
                f"{now.ended.mean_dice:.3f} ({' '.join(f'{value:.2f}' for value in now.ended.validation_dice)}){best}; "
                f"{now.seconds / 60:.1f} min, {now.waiting:.0%} of it waiting for crops"
            )


@contextmanager
def _display(silent: bool) -> Iterator[_Display]:
    with nullcontext() if silent else progress_bar() as bar:
        yield _Display(bar, silent)
