"""What `glionode pretrain` and `glionode finetune` share: options, the run itself, its progress and its result."""

import importlib.util
import shlex
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress

from models.labels import Role
from models.training.train.settings import (
    Cache,
    ConfigFile,
    Preset,
    SettingsContradict,
    TrainSettings,
    preset_settings,
    read_config,
)
from plugin.commands.output_folder import refuse_overlap
from plugin.commands.terminal import FAILED, complain, progress_bar, refuse, refusing

if TYPE_CHECKING:
    from models.training.dataset.dataset import Dataset
    from models.training.train.experiment import Experiment, Outcome
    from models.training.train.fit import TrainingProgress
    from models.training.train.joined_sets import JoinedSets


def _option(text: str, default: str, low: float | None = None) -> typer.models.OptionInfo:
    return typer.Option(help=text, min=low, show_default=default)  # type: ignore[no-any-return]


PresetOption = Annotated[
    Preset | None,
    _option("Recipe: paper (Wan et al. 2024), fast (recent GPUs) or synthetic.", "paper, with --synthetic synthetic"),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="TOML file of further settings, see docs/train.md."),
]
EpochsOption = Annotated[
    int | None,
    _option("Passes over the cases; 100 steps each of synthetic heads.", "100; finetune 50, --synthetic 40", low=1),
]
PatchOption = Annotated[
    int | None, _option("Edge of a crop in voxels, 0: whole heads.", "128 or 160, see --preset", low=0)
]
RateOption = Annotated[float | None, _option("Peak learning rate of Adam.", "1e-4 to 1e-3, see --preset")]
FoldsOption = Annotated[
    int | None,
    typer.Option(min=2, help="Cross-validate: so many folds over patients, a package each, and folds.csv."),
]
WorkersOption = Annotated[int | None, _option("Processes that prepare batches.", "0, with --synthetic 1", low=0)]
CacheOption = Annotated[
    Cache | None, _option("Where normalised cases are kept between epochs: none, ram or disk.", "none")
]
WeightOption = Annotated[
    list[str] | None,
    typer.Option("--weight", metavar="NAME=2", help="How often cases of one of several sets are seen, by folder name."),
]
DropOption = Annotated[
    float | None, _option("Share of the samples that lose channels, so that a study may lack some.", "0", low=0)
]
MixOption = Annotated[float | None, _option("Share of the samples that are synthetic heads.", "0", low=0)]
OptionalOption = Annotated[
    list[str] | None,
    typer.Option(
        "--optional",
        metavar="CHANNEL",
        help="Channel that a study may lack.",
        show_default="those without which it was trained and measured",
    ),
]
NameOption = Annotated[str | None, _option("Name of the model.", "that of OUT")]
WorkOption = Annotated[
    Path | None, typer.Option(file_okay=False, help="Folder for checkpoints and logs.", show_default="runs/NAME")
]


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """Options of a command that change settings; None leaves them to the configuration file and the preset."""

    preset: Preset | None
    config: Path | None
    epochs: int | None
    patch: int | None
    learning_rate: float | None
    workers: int | None
    cache: Cache | None
    minutes: float | None = None
    drop_channels: float | None = None
    synthetic_share: float | None = None

    def read(self, preset: Preset, epochs: int) -> tuple[TrainSettings, ConfigFile]:
        """Return the settings, and the configuration file that they come from.

        Options override the file, and the file overrides the preset; `preset` and `epochs` are the command's own.
        Refuses contradictions.
        """
        names = [field.name for field in fields(self) if field.name != "config"]
        try:
            config = read_config(self.config) if self.config is not None else ConfigFile({})
            options = {name: value for name in names if (value := getattr(self, name)) is not None}
            changes: dict[str, Any] = {"preset": preset, "epochs": epochs} | config.settings | options
            return preset_settings(changes.pop("preset"), changes.pop("epochs"), **changes), config
        except SettingsContradict as exc:
            raise refuse(f"These settings cannot be used: {exc}.") from exc


def require_lightning() -> None:
    """Refuse to go on if the extra for training is not installed."""
    if importlib.util.find_spec("lightning") is None:
        raise refuse("Training needs Lightning, which is not installed here; install glionode[train].")


def open_datasets(
    folders: Sequence[Path], out: Path, command: str, weights: Sequence[str] = ()
) -> "Dataset | JoinedSets":
    """Return the data set in a folder, or those in several as one.

    Refuses a folder without one, DATASET and OUT in the former order, and weights of other sets.
    """
    from models.training.dataset.dataset import read_dataset
    from models.training.dataset.manifest import MANIFEST_FILE, DatasetBroken
    from models.training.train.joined_sets import join_sets, sets_table

    first = folders[0]
    if len(folders) == 1 and not (first / MANIFEST_FILE).is_file() and (out / MANIFEST_FILE).is_file():
        raise refuse(
            f"{out} is the data set, and it stands where OUT belongs: the order has changed, and OUT comes last. "
            f"Say: glionode {command} {shlex.quote(str(out))} {shlex.quote(str(first))}"
        )
    for folder in folders:
        refuse_overlap(folder, out)
    by_name = dict(map(_weight, weights))
    with refusing(DatasetBroken):
        datasets = [read_dataset(folder) for folder in folders]
        if len(datasets) == 1 and not weights:
            return datasets[0]
        try:
            joined = join_sets(datasets, by_name)
        except SettingsContradict as exc:
            raise refuse(f"These data sets cannot be joined: {exc}.") from exc
    print(sets_table(joined))
    return joined


def _weight(text: str) -> tuple[str, float]:
    name, _, value = text.rpartition("=")
    try:
        return name, float(value)
    except ValueError:
        raise refuse(f"--weight {text} is no weight: write --weight NAME=2, NAME being the folder of a set.") from None


def optional_channels(names: Sequence[str] | None) -> tuple[Role, ...] | None:
    """Return the channels of --optional; None if it was not given. Refuses unknown names."""
    if names is None:
        return None
    unknown = [name for name in names if name not in set(Role)]
    if unknown:
        raise refuse(f"--optional {unknown[0]} is no channel; channels are {', '.join(Role)}.")
    return tuple(map(Role, names))


def work_folder(name: str, work: Path | None, resume: Path | None) -> Path:
    """Return where checkpoints go: `work`, else the folder of the run that is resumed, else runs/NAME."""
    from models.training.train.resume import is_package

    if work is None and resume is not None and not is_package(resume):
        return resume if resume.is_dir() else resume.parent
    return work or Path("runs") / name


def run(experiment: "Experiment") -> None:
    """Train, show progress, and print the result. Refuses what cannot be trained."""
    import torch
    from lightning.pytorch.utilities import rank_zero_only

    from models.package import PackageBroken
    from models.training.train.experiment import run_experiment
    from models.training.train.learner import TrainingStopped
    from models.training.train.transfer import NamesDoNotMatch
    from pipeline.errors import GlionodeError

    try:
        silent = getattr(rank_zero_only, "rank", 0) != 0
        with nullcontext() if silent else progress_bar() as bar:
            display = _Display(bar, silent)
            outcomes = run_experiment(experiment, display.report, display.begin)
    except (SettingsContradict, NamesDoNotMatch) as exc:
        raise refuse(f"{str(exc).rstrip('.')}.") from exc
    except (PackageBroken, TrainingStopped, GlionodeError) as exc:
        raise refuse(str(exc), FAILED) from exc
    except torch.OutOfMemoryError as exc:
        raise refuse(
            "The GPU's memory is too small for this: use a lower --patch, or `batch` or `precision` in --config. "
            f"What was trained until then is in {experiment.work}.",
            FAILED,
        ) from exc
    except OSError as exc:
        raise refuse(
            f"{exc.filename or experiment.package.folder} cannot be written: {exc.strerror or exc}. The weights are in "
            f"{experiment.work}; make room, then go on with --resume {experiment.work}.",
            FAILED,
        ) from exc
    for outcome in outcomes:
        _print_outcome(outcome, "--synthetic" if experiment.package.intended_use == "demonstration" else "DATASET")
    if experiment.folds and outcomes:
        print(f"{len(outcomes)} folds: {experiment.package.folder / 'folds.csv'} holds their Dice, mean and deviation.")


def _print_outcome(outcome: "Outcome", measured_on: str) -> None:
    from models.package import CARD_FILE

    package, trained = outcome.package, outcome.trained
    best, epochs = trained.curve.best, len(trained.curve.epochs)
    ended = "" if trained.complete else " Training was interrupted."
    if best is not None and best.validation_dice:
        print(f"Best epoch {best.epoch} of {epochs}.{ended}")
    else:
        print(f"Trained {trained.steps} steps.{ended}")
    for each in outcome.tuned:
        if not each.is_measured:
            print(
                f"{each.label}: none of {len(each.dice)} cases holds it, so its threshold stays {each.threshold} and "
                "nothing is known of how well it is found"
            )
            continue
        print(f"{each.label}: mean Dice {each.mean_dice:.3f} on {len(each.dice)} cases, at threshold {each.threshold}")
    if package.presence:
        lacking = (
            f"A study may lack {', '.join(package.optional)}" if package.optional else "A study may lack no channel"
        )
        print(f"{lacking}; {package.folder / CARD_FILE} has the Dice by what is there.")
    sha = package.weights_sha256[:12]
    print(f"Wrote model {package.name} {package.version} to {package.folder} (weights sha256 {sha}...).")
    folder = shlex.quote(str(package.folder))
    print(f"Measure it on cases that it never saw: glionode evaluate {folder} {measured_on}")


class _Display:
    """Shows the progress of training: a bar on a terminal, and a line at the end of each epoch."""

    def __init__(self, bar: Progress | None, silent: bool) -> None:
        self._bar, self._silent = bar, silent
        self._task = bar.add_task("", total=1) if bar is not None else None
        self._title = ""

    def begin(self, title: str) -> None:
        """Start a training with this title."""
        self._title = title

    def report(self, now: "TrainingProgress") -> None:
        """Show that a step or an epoch is over."""
        if self._silent:
            return
        if self._bar is not None and self._task is not None:
            words = f"{self._title}, epoch {now.epoch} of {now.epochs}"
            done = (now.epoch - 1) * now.steps + now.step
            self._bar.update(self._task, completed=done, total=now.epochs * now.steps, description=words)
        if now.ended is not None:
            dice, kind, mean = now.ended.soft_dice, "soft Dice", ""
            if now.ended.validation_dice:
                dice, kind, mean = now.ended.validation_dice, "validation Dice", f"{now.ended.mean_dice:.3f} "
            best = ", the best so far" if now.best else ""
            complain(
                f"{self._title}: epoch {now.epoch} of {now.epochs}, loss {now.ended.loss:.3f}, {kind} "
                f"{mean}({' '.join(f'{value:.2f}' for value in dice)}){best}; "
                f"{now.seconds / 60:.1f} min, {now.waiting:.0%} of it waiting for batches"
            )
