"""The command `glionode evaluate`: a model on a data set, or on synthetic heads. Imports torch only when it runs."""

import importlib.util
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plugin.commands.terminal import FAILED, complain, refuse

if TYPE_CHECKING:
    import torch

    from models.package import ModelPackage
    from models.training.dataset.manifest import Split
    from models.training.evaluate import HeadScore
    from models.training.evaluation.over_dataset import CaseScore, LeftOut

ALL = "all"
ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="Folder of a package, or the name of a bundled one.")
]
SplitOption = Annotated[str, typer.Option(metavar="NAME", help="train, validation, test or all.")]
DeviceOption = Annotated[str, typer.Option(help="auto (a GPU where there is one), cuda or cpu.")]
ThreadsOption = Annotated[int, typer.Option(min=1, help="CPU threads.")]


def evaluate(
    model: ModelArgument,
    dataset: Annotated[
        Path | None,
        typer.Argument(
            metavar="DATASET", file_okay=False, help="Data set that `glionode dataset` made.", show_default=False
        ),
    ] = None,
    synthetic: Annotated[bool, typer.Option("--synthetic", help="Measure on synthetic heads instead.")] = False,
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
    heads: Annotated[int, typer.Option(min=1, help="With --synthetic: how many heads; the variants take turns.")] = 20,
    seed0: Annotated[
        int, typer.Option(help="With --synthetic: seed of the first head; at least 1000000, training stays below.")
    ] = 1_000_000,
    threads: ThreadsOption = 2,
) -> None:
    """Measure a model: Dice, HD95, volumes and lesions, label by label and by subgroup.

    With DATASET: each case goes through the node's own segmenting and restoring. The results are cases.csv,
    evaluation.json and report.html (one page, no network needed). Subgroups are the columns of --groups and, unless a
    column is called so, focality by the components of the truth. Exit status 1 where cases were left out.

    With --synthetic: heads that no training saw go through the whole way, aligning included; writes the model's
    MODEL_CARD.md and metrics.json. A head takes about 20 s on 2 cores.

    Example: glionode evaluate my-model my-data --groups status.csv
    Example: glionode evaluate phantom-demo --synthetic --heads 20
    """
    if (dataset is None) != synthetic:
        raise refuse("Say what to measure on: a folder that `glionode dataset` made, or --synthetic.")
    if dataset is None:
        _on_synthetic_heads(find_model(model), heads, seed0, threads)
    else:
        refuse_without_training_extra()
        chosen = chosen_split(split)
        _on_dataset(find_model(model), dataset, chosen, groups, out, worst, seed, chosen_device(device, threads))


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
    from models.training.dataset.case import read_dataset
    from models.training.evaluation.groups import groupings_of, read_groups
    from models.training.evaluation.over_dataset import Compared, measure_dataset
    from models.training.evaluation.overlays import WorstCases
    from models.training.evaluation.report import PAGE_FILE, write_evaluation
    from models.training.evaluation.summary import evaluate as summarise
    from models.training.learned_from import learned_from, overlap_of
    from pipeline.errors import GlionodeError

    target = out or Path("runs") / f"{package.name}-evaluation"
    pictures = WorstCases(worst)

    def see(compared: Compared) -> None:
        print(_case_line(compared.score), flush=True)
        pictures.see(compared)

    try:
        dataset = read_dataset(folder)
        chosen = dataset.cases if split is None else dataset.of(split)
        # A wrong file is told of now, and not after an hour.
        said = read_groups(groups, [case.case_id for case in chosen]) if groups and chosen else ()
        met = overlap_of(learned_from(package), dataset.manifest.key, {case.patient for case in chosen})
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


def _on_synthetic_heads(package: "ModelPackage", heads: int, seed0: int, threads: int) -> None:
    import torch

    from models.package import PackageBroken
    from models.training.card import write_results
    from models.training.evaluate import evaluate as measure

    torch.set_num_threads(threads)
    try:
        evaluation = measure(package, heads, seed0, _print_head)
        write_results(evaluation, this_command())
    except PackageBroken as exc:
        raise refuse(str(exc), FAILED) from exc
    except ValueError as exc:
        raise refuse(f"These settings cannot be used: {exc}.") from exc
    except OSError as exc:
        raise refuse(f"{package.folder} cannot be written: {exc.strerror or exc}.", FAILED) from exc
    for summary in evaluation.labels:
        value = "-" if summary.mean_dice is None else f"{summary.mean_dice:.3f}"
        print(f"{summary.label}: mean Dice {value} over {summary.heads} heads")
    if evaluation.mean_dice is not None:
        print(f"Mean of the labels: {evaluation.mean_dice:.3f}. Card and metrics are in {package.folder}.")


def find_model(model: str) -> "ModelPackage":
    """The package in a folder or of a name; refuses with a sentence."""
    from models.package import PackageBroken, find_package, read_package

    try:
        return read_package(Path(model)) if Path(model).is_dir() else find_package(model, None)
    except PackageBroken as exc:
        raise refuse(str(exc), FAILED) from exc


def chosen_split(name: str) -> "Split | None":
    """The split of a name, None for all; refuses with a sentence."""
    from models.training.dataset.manifest import Split

    if name == ALL:
        return None
    try:
        return Split(name)
    except ValueError as exc:
        known = ", ".join(each.value for each in Split)
        raise refuse(f"Split {name!r} is unknown; choose one of {known} or {ALL}.") from exc


def chosen_device(name: str, threads: int) -> "torch.device":
    """The device of a name, with that many threads on the CPU; refuses with a sentence."""
    import torch

    from pipeline.segment import pick_device

    torch.set_num_threads(threads)
    try:
        return pick_device(name)
    except ValueError as exc:
        raise refuse(f"{exc}.") from exc


def refuse_without_training_extra() -> None:
    """Figures need matplotlib, which a node has no use for."""
    if importlib.util.find_spec("matplotlib") is None:
        raise refuse("The report's figures need matplotlib, which is not installed here; install glionode[train].")


def this_command() -> str:
    """The command as it was given, absolute paths by their names: results go to others, whom they do not concern."""
    return shlex.join(["glionode", *(_without_folder(argument) for argument in sys.argv[1:])])


def _without_folder(argument: str) -> str:
    option, equals, value = argument.rpartition("=")
    return option + equals + Path(value).name if Path(value).is_absolute() else argument


def _say_left_out(left_out: "LeftOut") -> None:
    complain(f"Left out, {left_out.case_id}: {left_out.why}")


def _case_line(score: "CaseScore") -> str:
    labels = (f"{each.label} {each.dice:.2f} ({each.found_ml:.1f} of {each.true_ml:.1f} ml)" for each in score.labels)
    return f"{score.case_id}: {', '.join(labels)}"


def _print_head(score: "HeadScore") -> None:
    parts = []
    for label in score.labels:
        value = f"{label.dice:.2f}" if label.is_there else "-"
        parts.append(f"{label.label} {value} ({label.found_ml:.1f} of {label.true_ml:.1f} ml)")
    print(f"head {score.seed} ({score.variant.value}): {', '.join(parts)}", flush=True)
