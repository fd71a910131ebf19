"""The command `glionode finetune`: train a package's network on a local data set."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from models.training.train.settings import FINETUNE_EPOCHS, Preset
from plugin.commands import training_run
from plugin.commands.model_arguments import find_model, this_command
from plugin.commands.terminal import refuse

if TYPE_CHECKING:
    from models.package import ModelPackage
    from models.training.dataset.dataset import Dataset
    from models.training.train.joined_sets import JoinedSets
    from models.training.train.transfer import Parent


def finetune(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="DATASET ... OUT",
            file_okay=False,
            help="Data sets that `glionode dataset` made, and folder of the model package to write.",
        ),
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
    preset: training_run.PresetOption = None,
    config: training_run.ConfigOption = None,
    epochs: training_run.EpochsOption = None,
    patch: training_run.PatchOption = None,
    learning_rate: training_run.RateOption = None,
    weight: training_run.WeightOption = None,
    mix_synthetic: training_run.MixOption = None,
    drop_channels: training_run.DropOption = None,
    optional: training_run.OptionalOption = None,
    folds: training_run.FoldsOption = None,
    workers: training_run.WorkersOption = None,
    cache: training_run.CacheOption = None,
    name: training_run.NameOption = None,
    work: training_run.WorkOption = None,
    resume: Annotated[
        Path | None, typer.Option(exists=True, help="Work folder of a run, or its last.ckpt, to go on from.")
    ] = None,
) -> None:
    """Train a package's network on local data sets, whose channels and labels may be others.

    Weights move by name: a channel or label that both have keeps its own, ADC begins as T2, enhancing_tumour as ET,
    adc_abnormality as TC, flair_hyperintensity as WT. Anything else has to be said with --channel, --head and --drop,
    and is recorded. The best epoch by mean validation Dice becomes the package OUT, for research.
    Several sets are joined as `glionode pretrain` joins them.

    Example: glionode finetune our-data runs/ours --from runs/brats --preset fast --cache disk --workers 4
    """
    if len(folders) < 2:
        raise refuse("Say what to train on, and where to: `glionode finetune DATASET OUT --from MODEL`.")
    training_run.require_lightning()
    options = training_run.TrainingOptions(
        preset, config, epochs, patch, learning_rate, workers, cache, None, drop_channels, mix_synthetic
    )
    settings, file = options.read(Preset.PAPER, FINETUNE_EPOCHS)
    out = folders[-1]
    cases, package = training_run.open_datasets(folders[:-1], out, "finetune", weight or []), find_model(parent)
    from models.training.train.experiment import Experiment, describe

    spacing_mm = file.spacing_mm or package.spacing_mm
    described = describe(cases, package.network, spacing_mm, settings, out, name, file.version, package)
    training_run.run(
        Experiment(
            cases=cases,
            settings=settings,
            package=described,
            work=training_run.work_folder(described.name, work, resume),
            command=this_command(),
            parent=_parent(package, cases, described, channel or [], head or [], drop or []),
            folds=folds or 0,
            optional=training_run.optional_channels(optional),
            resume=resume,
        )
    )


def _parent(
    package: "ModelPackage",
    dataset: "Dataset | JoinedSets",
    described: "ModelPackage",
    channels: list[str],
    heads: list[str],
    dropped: list[str],
) -> "Parent":
    """Return where every weight goes; refuse names without a place, with the options that would give them one."""
    from models.training.train.transfer import NamesDoNotMatch, Parent, match_names, parse_source

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
