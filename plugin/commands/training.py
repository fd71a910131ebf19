"""The commands that train and evaluate, and `glionode pretrain` itself. Imports torch only when one runs."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from models.training.train.settings import PRETRAIN_EPOCHS
from plugin.commands.model_arguments import this_command
from plugin.commands.retrain import (
    CacheOption,
    DeterministicOption,
    DevicesOption,
    EpochsOption,
    FoldsOption,
    ForegroundOption,
    NodesOption,
    PatienceOption,
    PresetOption,
    SpacingOption,
    TrainingOptions,
    WorkersOption,
    need_lightning,
    open_dataset,
    train,
    work_folder,
)
from plugin.commands.terminal import refuse

if TYPE_CHECKING:
    from models.training.train.synthetic_learner import PretrainSettings

_HEADS = "Training on synthetic heads"


def pretrain(
    out: Annotated[Path, typer.Argument(metavar="OUT", file_okay=False, help="Folder of the model package to write.")],
    dataset: Annotated[
        Path | None,
        typer.Argument(
            metavar="DATASET", file_okay=False, help="Data set that `glionode dataset` made.", show_default=False
        ),
    ] = None,
    synthetic: Annotated[bool, typer.Option("--synthetic", help="Train on synthetic heads instead.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights, heads and crops.")] = 1,
    patch: Annotated[
        int | None, typer.Option(min=0, help="Edge of a crop in voxels, 0: whole heads; of synthetic ones their mean.")
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Crops in a step of one process.")] = None,
    init_filters: Annotated[
        int | None, typer.Option(min=8, help="Feature maps at full resolution, a multiple of 8.", show_default="16, 8")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Peak learning rate of Adam.", show_default="the preset's, 1e-3")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads for the network.")] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="32-true, bf16-mixed, or another of Lightning's.", show_default="the preset's, bf16-mixed"),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the model.", show_default="that of OUT")] = None,
    version: Annotated[str, typer.Option(help="Version of the model.")] = "1.0.0",
    work: Annotated[
        Path | None, typer.Option(file_okay=False, help="Folder for checkpoints and logs.", show_default="runs/NAME")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            help="Work folder of a run, or its last.ckpt, to go on from; with --synthetic a model package, too.",
        ),
    ] = None,
    preset: PresetOption = None,
    epochs: EpochsOption = None,
    patience: PatienceOption = None,
    folds: FoldsOption = None,
    foreground: ForegroundOption = None,
    spacing: SpacingOption = None,
    deterministic: DeterministicOption = False,
    devices: DevicesOption = None,
    nodes: NodesOption = None,
    workers: WorkersOption = None,
    cache: CacheOption = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Optimiser steps at most.", show_default="4000", rich_help_panel=_HEADS)
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Stop after so many minutes; with --resume, 0 only writes what the checkpoint holds.",
            rich_help_panel=_HEADS,
        ),
    ] = None,
    tune_heads: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Heads for choosing thresholds at the end; 0: all 0.5.",
            show_default="10",
            rich_help_panel=_HEADS,
        ),
    ] = None,
) -> None:
    """Train a network from the start and write it as the model package OUT.

    On DATASET: Wan et al. 2024 by default; crops of the training cases, Adam, Dice and cross-entropy. The best epoch by
    mean validation Dice becomes the package, for research, its thresholds chosen on the validation cases. A run that
    was killed goes on with --resume at the same step.

    With --synthetic: on heads that are made while it runs; no data is needed and none is read. The package's intended
    use is "demonstration". Ctrl-C ends the run early and still writes the package. 2 cores take 1 to 2 s a step; each
    of --workers makes about a head a second on a core of its own. A run goes on with --resume; with a multiple of its
    --init-filters it goes on as a wider network that begins with what the narrower one had learned. Where no checkpoint
    is left, --resume goes on from the package of a run.

    Example: glionode pretrain runs/brats brats-data --preset fast --cache disk --workers 4
    Example: glionode pretrain --synthetic --minutes 60 runs/my-demo
    """
    if (dataset is None) != synthetic:
        raise refuse("Say what to train on: a folder that `glionode dataset` made, or --synthetic.")
    need_lightning()
    wishes = TrainingOptions(
        preset, epochs, patience, batch, patch, foreground, learning_rate, precision,
        seed, deterministic, devices, nodes, workers, cache, threads,
    )  # fmt: skip
    if dataset is None:
        _refuse_for_heads(wishes, folds, spacing)
        from plugin.commands.synthetic import pretrain_on_heads

        settings = _heads_settings(wishes, steps, minutes, tune_heads, init_filters)
        checkpoint = resume
        if resume is not None and resume.is_dir() and not (resume / "model.toml").is_file():
            checkpoint = resume / "last.ckpt"
        pretrain_on_heads(out, name or "phantom-demo", version, settings, work, checkpoint)
        return
    for option, value in (("--steps", steps), ("--minutes", minutes), ("--tune-heads", tune_heads)):
        if value is not None:
            raise refuse(f"{option} goes with --synthetic; training on a data set counts --epochs.")
    _on_dataset(wishes, out, dataset, init_filters, spacing, (name, version), folds, (work, resume))


def _on_dataset(
    wishes: TrainingOptions,
    out: Path,
    dataset: Path,
    init_filters: int | None,
    spacing: float | None,
    called: tuple[str | None, str],
    folds: int | None,
    places: tuple[Path | None, Path | None],
) -> None:
    settings, cases = wishes.settings(PRETRAIN_EPOCHS), open_dataset(dataset)
    from models.network import NetworkSettings
    from models.training.train.experiment import Order, describe

    try:
        network = NetworkSettings(init_filters=init_filters or 16)
    except ValueError as exc:
        raise refuse(f"These settings contradict each other: {exc}.") from exc
    package = describe(cases, network, spacing or cases.spacing_mm, settings, out)
    package = replace(package, name=called[0] or package.name, version=called[1])
    work = work_folder(package.name, *places)
    train(Order(cases, settings, package, work, this_command(), folds=folds or 0, resume=places[1]))


def _refuse_for_heads(wishes: TrainingOptions, folds: int | None, spacing: float | None) -> None:
    of_data_sets = (wishes.preset, wishes.epochs, wishes.patience, wishes.foreground, wishes.devices, wishes.nodes)
    given = (*of_data_sets, wishes.cache, folds, spacing, wishes.deterministic or None)
    if any(value is not None for value in given):
        raise refuse("An option that goes with a data set was given with --synthetic; see glionode pretrain --help.")


def _heads_settings(
    wishes: TrainingOptions, steps: int | None, minutes: float | None, tune_heads: int | None, init_filters: int | None
) -> "PretrainSettings":
    from models.network import NetworkSettings
    from models.training.synthetic.samples import SampleSettings
    from models.training.train.synthetic_learner import PretrainSettings

    try:
        return PretrainSettings(
            steps=steps or 4000,
            minutes=minutes,
            seed=wishes.seed,
            learning_rate=wishes.learning_rate or 1e-3,
            threads=wishes.threads or 1,
            workers=1 if wishes.workers is None else wishes.workers,
            precision=wishes.precision or "bf16-mixed",
            tune_heads=10 if tune_heads is None else tune_heads,
            network=NetworkSettings(init_filters=init_filters or 8, space_to_depth=2),
            samples=SampleSettings(patch=wishes.patch or 160, batch=wishes.batch or 1),
        )
    except ValueError as exc:
        raise refuse(f"These settings contradict each other: {exc}.") from exc
