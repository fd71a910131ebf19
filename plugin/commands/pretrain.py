"""The command `glionode pretrain`: train a network from the start, on a data set or on synthetic heads."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from models.network import NetworkSettings
from models.training.train.settings import PRETRAIN_EPOCHS, SYNTHETIC_EPOCHS, Preset, SettingsContradict
from plugin.commands import training_run
from plugin.commands.model_arguments import this_command
from plugin.commands.terminal import refuse, refusing

if TYPE_CHECKING:
    from models.package import ModelPackage
    from models.training.dataset.dataset import Dataset
    from models.training.synthetic.samples import SampleSettings
    from models.training.train.joined_sets import JoinedSets


def pretrain(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="[DATASET ...] OUT",
            file_okay=False,
            help="Data sets that `glionode dataset` made, and folder of the model package to write.",
        ),
    ],
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="Train on synthetic heads instead of a data set.")
    ] = False,
    preset: training_run.PresetOption = None,
    config: training_run.ConfigOption = None,
    epochs: training_run.EpochsOption = None,
    minutes: Annotated[
        float | None,
        typer.Option(min=0, help="End after so many minutes; with --resume, 0 only writes the package."),
    ] = None,
    patch: training_run.PatchOption = None,
    learning_rate: training_run.RateOption = None,
    init_filters: Annotated[
        int | None,
        typer.Option(
            min=8,
            help="Feature maps at full resolution, a multiple of 8.",
            show_default="16, with --synthetic 8",
        ),
    ] = None,
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
        Path | None,
        typer.Option(exists=True, help="Work folder or last.ckpt of a run; with --synthetic a package, too."),
    ] = None,
) -> None:
    """Train a network from the start and write it as the model package OUT.

    On DATASET: crops of the training cases, Adam, Dice and cross-entropy. The best epoch by mean validation Dice
    becomes the package, for research, its thresholds chosen on the validation cases. After a crash, the same command
    with --resume goes on at the next step. Sets may differ in channels and labels: the network has those of all of
    them, and what a case lacks is not counted. A patient or case that is in two sets is in one split, and trained on
    once.

    With --synthetic: on heads that are made while it runs; no data is needed and none is read. The package's intended
    use is "demonstration". Ctrl-C and --minutes end the run early and still write the package. 2 cores take 1 to 2 s a
    step; each of --workers makes about a head a second on a core of its own. --resume goes on with more --epochs, other
    settings, or a multiple of the --init-filters; without a checkpoint, it goes on from the package of a run.

    Example: glionode pretrain brats-data runs/brats --preset fast --cache disk --workers 4
    Example: glionode pretrain --synthetic --minutes 60 runs/my-demo
    """
    if len(folders) < 2 if not synthetic else len(folders) != 1:
        raise refuse(
            "Say what to train on: `glionode pretrain DATASET OUT`, with a data set that `glionode dataset` made, or "
            "`glionode pretrain --synthetic OUT`."
        )
    if synthetic and folds:
        raise refuse("--folds needs the patients of a data set; synthetic heads have none.")
    if synthetic and (weight or mix_synthetic):
        raise refuse("--weight and --mix-synthetic are for data sets; with --synthetic all samples are heads.")
    training_run.require_lightning()
    options = training_run.TrainingOptions(
        preset, config, epochs, patch, learning_rate, workers, cache, minutes, drop_channels, mix_synthetic
    )
    out = folders[-1]
    cases: Dataset | JoinedSets | SampleSettings
    parent = None
    if synthetic:
        from models.training.train.synthetic_heads import sample_settings

        settings, file = options.read(Preset.SYNTHETIC, SYNTHETIC_EPOCHS)
        network = _network(init_filters or 8, space_to_depth=2)
        cases = sample_settings(settings, network, file.spacing_mm)
        parent = _package_to_resume(resume)
    else:
        settings, file = options.read(Preset.PAPER, PRETRAIN_EPOCHS)
        network = _network(init_filters or 16)
        cases = training_run.open_datasets(folders[:-1], out, "pretrain", weight or [])
    from models.training.train.experiment import Experiment, describe

    with refusing(SettingsContradict):
        spacing_mm = file.spacing_mm or cases.spacing_mm
    package = describe(cases, network, spacing_mm, settings, out, name, file.version, parent)
    training_run.run(
        Experiment(
            cases=cases,
            settings=settings,
            package=package,
            work=training_run.work_folder(package.name, work, resume),
            command=this_command(),
            folds=folds or 0,
            optional=training_run.optional_channels(optional),
            resume=resume,
        )
    )


def _package_to_resume(resume: Path | None) -> "ModelPackage | None":
    """Return the package from which training on heads goes on, if it is one."""
    from models.package import PackageBroken, read_package
    from models.training.train.resume import is_package

    if resume is None or not is_package(resume):
        return None
    with refusing(PackageBroken):
        return read_package(resume)


def _network(init_filters: int, space_to_depth: int = 1) -> NetworkSettings:
    try:
        return NetworkSettings(init_filters=init_filters, space_to_depth=space_to_depth)
    except ValueError as exc:
        raise refuse(f"These settings cannot be used: {exc}.") from exc
