"""The command `glionode evaluate`: a model on a data set, or on synthetic heads. Imports torch only when it runs."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from models.training.synthetic.families import Family
from plugin.commands.heads_asked import HeadsAsked
from plugin.commands.model_arguments import (
    ALL,
    DeviceOption,
    ModelArgument,
    SplitOption,
    chosen_device,
    chosen_split,
    find_model,
    this_command,
)
from plugin.commands.terminal import FAILED, complain, refuse

if TYPE_CHECKING:
    import torch

    from models.package import ModelPackage
    from models.training.dataset.manifest import Split
    from models.training.evaluation.evaluate_dataset import CaseScore, LeftOut

_HEADS = "With --synthetic"


def evaluate(
    model: ModelArgument,
    dataset: Annotated[
        Path | None,
        typer.Argument(
            metavar="DATASET", file_okay=False, help="Data set that `glionode dataset` made.", show_default=False
        ),
    ] = None,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="Measure on synthetic heads instead, and on studies with --study.")
    ] = False,
    split: SplitOption = "test",
    groups: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="CSV of subgroups: a column `case` and others such as `status`, `focality`."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(file_okay=False, help="Folder for the results.", show_default="runs/NAME-evaluation")
    ] = None,
    worst: Annotated[int, typer.Option(min=0, help="Cases to show pictures of, worst first.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 1,
    device: DeviceOption = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads of a process.", show_default="2, with --synthetic 1")
    ] = None,
    heads: Annotated[
        int,
        typer.Option(
            min=0,
            help="Heads with a lesion: so many like those that training draws, so many of each family held out.",
            rich_help_panel=_HEADS,
        ),
    ] = 20,
    family: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help=f"Heads of which family: {', '.join(Family)} or {ALL}. May be given several times.",
            show_default=ALL,
            rich_help_panel=_HEADS,
        ),
    ] = None,
    lesion_free: Annotated[
        int, typer.Option(min=0, help="Heads without a lesion, of the families in turn.", rich_help_panel=_HEADS)
    ] = 8,
    study: Annotated[
        list[Path] | None,
        typer.Option(
            file_okay=False,
            help="Folder of a real head with a simulated tumour: dicom/ and truth_*.nii.gz as `glionode phantom` "
            "writes them. May be given several times.",
            rich_help_panel=_HEADS,
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.", rich_help_panel=_HEADS)] = 1,
    seed0: Annotated[
        int,
        typer.Option(
            help="Seed of each family's first head, at least 1000000: training stays below. Heads without a lesion "
            "come 500000 later.",
            rich_help_panel=_HEADS,
        ),
    ] = 1_000_000,
    spacing: Annotated[
        float,
        typer.Option(
            min=0.5,
            max=6,
            help="Edge of the voxels of which heads are made, mm; above 1 for trials.",
            rich_help_panel=_HEADS,
        ),
    ] = 1.0,
) -> None:
    """Measure a model: Dice, HD95, volumes and lesions, label by label and by subgroup.

    With DATASET: each case goes through the node's own segmenting and restoring. The results are cases.csv,
    evaluation.json and report.html (one page, no network needed). Subgroups are the columns of --groups and, unless a
    column is called so, focality by the components of the truth. Exit status 1 where cases were left out.

    With --synthetic: heads that no training saw go through the whole way, aligning included, and so do studies, from
    scanning on; writes the model's MODEL_CARD.md with pictures, and metrics.json. A head takes about 30 s a process.
    Each is kept in --out as it comes: a second start goes on where the first was ended. Exit status 1 where something
    could not be measured.

    Example: glionode evaluate my-model my-data --groups status.csv
    Example: glionode evaluate phantom-demo --synthetic --heads 50 --lesion-free 20 --workers 2
    """
    if (dataset is None) != synthetic:
        raise refuse("Say what to measure on: a folder that `glionode dataset` made, or --synthetic.")
    if study and not synthetic:
        raise refuse("--study goes with --synthetic; a data set has its truth with it.")
    if dataset is None:
        from plugin.commands.evaluate_heads import evaluate_on_heads

        package = find_model(model)
        work = out or _results_of(package)
        asked = HeadsAsked(
            *(chosen_families(family or [ALL]), heads, lesion_free, tuple(study or ()), seed0, spacing),
            *(workers, threads or 1, device, work),
        )
        evaluate_on_heads(package, asked)
    else:
        refuse_without_training_extra()
        chosen = chosen_split(split)
        _on_dataset(find_model(model), dataset, chosen, groups, out, worst, seed, chosen_device(device, threads or 2))


def _on_dataset(
    package: "ModelPackage",
    folder: Path,
    split: "Split | None",
    groups: Path | None,
    out: Path | None,
    worst: int,
    seed: int,
    device: "torch.device",
) -> None:
    from models.package import PackageBroken
    from models.training.dataset.dataset import read_dataset
    from models.training.dataset.lineage import find_overlap, read_lineage
    from models.training.evaluation.evaluate_dataset import Compared, measure_dataset
    from models.training.evaluation.groups import groupings_of, read_groups
    from models.training.evaluation.overlays import WorstCases
    from models.training.evaluation.report import PAGE_FILE, write_evaluation
    from models.training.evaluation.summary import evaluate as summarise
    from pipeline.errors import GlionodeError

    target = out or _results_of(package)
    pictures = WorstCases(worst)

    def see(compared: Compared) -> None:
        print(_case_line(compared.score), flush=True)
        pictures.see(compared)

    try:
        dataset = read_dataset(folder)
        chosen = dataset.cases if split is None else dataset.of(split)
        # A wrong file is told of now, and not after an hour.
        said = read_groups(groups, [case.case_id for case in chosen]) if groups and chosen else ()
        met = find_overlap(read_lineage(package), dataset.manifest.key, {case.patient for case in chosen})
        for sentence in met.warnings():
            complain(sentence)
        measured = measure_dataset(package, dataset, split, device, see)
        for each in measured.left_out:
            _say_left_out(each)
        evaluation = summarise(measured, groupings_of(measured.cases, said), seed)
        write_evaluation(evaluation, pictures.kept, this_command(), target)
    except (GlionodeError, PackageBroken) as exc:
        raise refuse(str(exc), FAILED) from exc
    except OSError as exc:
        raise refuse(f"{target} cannot be written: {exc.strerror or exc}.", FAILED) from exc
    for summary in evaluation.labels:
        dice = dict(summary.metrics)["dice"]
        print(f"{summary.label}: median Dice {dice.median:.3f} over {summary.cases} cases")
    print(f"Tables and report: {target / PAGE_FILE}")
    if measured.left_out:
        raise typer.Exit(FAILED)


def chosen_families(names: list[str]) -> tuple[Family, ...]:
    """The families of these names, in their own order; refuses with a sentence."""
    if unknown := [name for name in names if name not in (*Family, ALL)]:
        raise refuse(f"Family {unknown[0]!r} is unknown; choose among {', '.join(Family)} and {ALL}.")
    return tuple(family for family in Family if ALL in names or family in names)


def refuse_without_training_extra() -> None:
    """Figures need matplotlib, which a node has no use for."""
    if importlib.util.find_spec("matplotlib") is None:
        raise refuse("The report's figures need matplotlib, which is not installed here; install glionode[train].")


def _say_left_out(left_out: "LeftOut") -> None:
    complain(f"Left out, {left_out.case_id}: {left_out.why}")


def _case_line(score: "CaseScore") -> str:
    labels = (f"{each.label} {each.dice:.2f} ({each.found_ml:.1f} of {each.true_ml:.1f} ml)" for each in score.labels)
    return f"{score.case_id}: {', '.join(labels)}"


def _results_of(package: "ModelPackage") -> Path:
    return Path("runs") / f"{package.name}-evaluation"
