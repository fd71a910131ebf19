"""The command `glionode finetune`: a package's weights, trained on for other channels and labels."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from models.training.train.settings import FINETUNE_EPOCHS
from plugin.commands.model_arguments import find_model, this_command
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
    from models.package import ModelPackage
    from models.training.dataset.dataset import Dataset
    from models.training.train.experiment import Parent


def finetune(
    out: Annotated[Path, typer.Argument(metavar="OUT", file_okay=False, help="Folder of the model package to write.")],
    dataset: Annotated[
        Path, typer.Argument(metavar="DATASET", file_okay=False, help="Data set that `glionode dataset` made.")
    ],
    parent: Annotated[
        str, typer.Option("--from", metavar="MODEL", help="Folder of a package, or the name of a bundled one.")
    ],
    channel: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=...", help="Where a channel begins: ADC=T2:copy, ADC=T2+FLAIR:mean, ADC=zero..."),
    ] = None,
    head: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=...", help="Where a label begins: adc_abnormality=TC:copy, ...=reinitialise."),
    ] = None,
    drop: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A channel or label of the package to do without.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the model.", show_default="that of OUT")] = None,
    version: Annotated[str, typer.Option(help="Version of the model.")] = "1.0.0",
    preset: PresetOption = None,
    epochs: EpochsOption = None,
    patience: PatienceOption = None,
    folds: FoldsOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of crops and of weights that begin anew.")] = 1,
    patch: Annotated[int | None, typer.Option(min=0, help="Edge of a crop in voxels; 0: whole heads.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Crops in a step of one process.")] = None,
    foreground: ForegroundOption = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate of Adam.")] = None,
    precision: Annotated[str | None, typer.Option(help="32-true, bf16-mixed, or another of Lightning's.")] = None,
    spacing: SpacingOption = None,
    deterministic: DeterministicOption = False,
    devices: DevicesOption = None,
    nodes: NodesOption = None,
    workers: WorkersOption = None,
    cache: CacheOption = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads for the network.")] = None,
    work: Annotated[
        Path | None, typer.Option(file_okay=False, help="Folder for checkpoints and logs.", show_default="runs/NAME")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(exists=True, help="Work folder of a run, or its last.ckpt, to go on from.")
    ] = None,
) -> None:
    """Train a package's network on a local data set, whose channels and labels may be others.

    Weights move by name: a channel or label that both have keeps its own, ADC begins as T2, enhancing_tumour as ET,
    adc_abnormality as TC, flair_hyperintensity as WT. Anything else has to be said with --channel, --head and --drop,
    and is recorded. The best epoch by mean validation Dice becomes the package OUT, for research.

    Example: glionode finetune runs/ours our-data --from runs/brats --preset fast --cache disk --workers 4
    """
    need_lightning()
    wishes = TrainingOptions(
        preset, epochs, patience, batch, patch, foreground, learning_rate, precision,
        seed, deterministic, devices, nodes, workers, cache, threads,
    )  # fmt: skip
    settings = wishes.settings(FINETUNE_EPOCHS)
    package, cases = find_model(parent), open_dataset(dataset)
    from models.training.train.experiment import Order, describe

    described = describe(cases, package.network, spacing or package.spacing_mm, settings, out)
    described = replace(described, name=name or described.name, version=version)
    train(
        Order(
            dataset=cases,
            settings=settings,
            package=described,
            work=work_folder(described.name, work, resume),
            command=this_command(),
            parent=_parent(package, cases, described, channel or [], head or [], drop or []),
            folds=folds or 0,
            resume=resume,
        )
    )


def _parent(
    package: "ModelPackage",
    dataset: "Dataset",
    described: "ModelPackage",
    channels: list[str],
    heads: list[str],
    dropped: list[str],
) -> "Parent":
    """Where every weight goes; refuses with the mapping that would be needed."""
    from models.training.train.experiment import Parent
    from models.training.train.transfer import NamesDoNotMatch, match_names, parse_source

    parent_labels = [label.name for label in package.labels]
    known = {*package.channels, *parent_labels}
    try:
        unknown = [name for name in dropped if name not in known]
        if unknown:
            raise NamesDoNotMatch(f"--drop {unknown[0]}: {package.name} has {', '.join(sorted(known))}")
        given = [parse_source(text) for text in channels], [parse_source(text) for text in heads]
        labels = [label.name for label in described.labels]
        return Parent(
            package=package,
            channels=match_names("channel", list(package.channels), list(dataset.channels), given[0], dropped),
            heads=match_names("head", parent_labels, labels, given[1], dropped),
            dropped=tuple(dropped),
        )
    except NamesDoNotMatch as exc:
        raise refuse(f"{str(exc).rstrip('.')}.") from exc
