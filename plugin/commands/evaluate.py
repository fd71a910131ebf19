"""The command `glionode evaluate`: a model on a data set, or on synthetic heads. Imports torch only when it runs."""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from models.training.synthetic.families import Family
from plugin.commands.case_names import ReadKeyOption, ShowNamesOption, name_cases
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
from plugin.commands.output_folder import refuse_overlap
from plugin.commands.terminal import FAILED, complain, refuse, refusing

if TYPE_CHECKING:
    import torch

    from models.labels import Role
    from models.package import ModelPackage
    from models.training.dataset.manifest import Split
    from models.training.evaluation.case_score import CaseScore
    from models.training.evaluation.cases import EvaluationCase, SyntheticSelection, Unmeasured
    from models.training.evaluation.figures import Choice
    from models.training.evaluation.measure_case import MeasureSettings
    from models.training.evaluation.measure_cases import Measurement
    from models.training.evaluation.summary import Evaluation, LabelSummary

_HEADS = "With --synthetic"


def evaluate(
    model: ModelArgument,
    places: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[DATASET] [OUT]",
            file_okay=False,
            help="Data set that `glionode dataset` made, unless --synthetic is given; then the folder for the results.",
            show_default="OUT: runs/NAME-evaluation",
        ),
    ] = None,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="Measure on synthetic heads instead, and on studies with --study.")
    ] = False,
    split: SplitOption = "test",
    without: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CHANNELS",
            help="Measure every case once more without these optional channels of the model, such as ADC, or ADC,FLAIR "
            "for both at once. May be given several times.",
            show_default=False,
        ),
    ] = None,
    names: ShowNamesOption = False,
    key: ReadKeyOption = None,
    groups: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="CSV of subgroups: a column `case` and others such as `status`, `focality`."),
    ] = None,
    worst: Annotated[int, typer.Option(min=0, help="Cases to show pictures of, worst first.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 1,
    device: DeviceOption = "auto",
    workers: Annotated[int, typer.Option(min=1, help="Processes that measure cases.")] = 1,
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
    out: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Measure a model: Dice, HD95, volumes and lesions, label by label and by subgroup.

    With DATASET: each case goes through the node's own segmenting and restoring. Subgroups are the columns of --groups
    and, unless a column is called so, focality by the components of the truth.

    A label that a case lacks is not scored in it. A case without an optional channel of the model goes through without
    it. There, and with --without, the Dice is also told by the channels that the network was given.

    With --synthetic: heads that no training saw, and studies, go through the whole pipeline, aligning included. The
    results are also written into the model's own folder: MODEL_CARD.md with pictures, and metrics.json. A head takes
    about 30 s a process.

    Names of public cases are printed with their hashes if the table beside the key has them, with --names those of the
    site, too; they are not written to OUT.

    OUT gets cases.csv, evaluation.json and report.html (one page, no network needed). Each case is kept in OUT as it
    is measured: a second start continues where the first was ended. Exit status 1 where a case could not be measured.

    Example: glionode evaluate my-model my-data results --groups status.csv
    Example: glionode evaluate phantom-demo --synthetic --heads 50 --lesion-free 20 --workers 2 results
    """
    if out is not None:
        raise refuse("--out is now the last argument: `glionode evaluate MODEL DATASET OUT`.")
    dataset, results = _split_places(places or [], synthetic)
    if study and not synthetic:
        raise refuse("--study goes with --synthetic; a data set has its truth with it.")
    _refuse_without_training_extra()
    package = find_model(model)
    threads = threads or (2 if dataset else 1)
    results = results or Path("runs") / f"{package.name}-evaluation"
    from models.package import PackageBroken
    from models.training.evaluation.report_page import PAGE_FILE
    from pipeline.errors import GlionodeError

    left_out = _left_out(package, without or [], synthetic)
    run = _Run(package, results, chosen_device(device, threads), threads, workers, seed, left_out)
    try:
        with refusing(GlionodeError, PackageBroken):
            if dataset is not None:
                evaluation = _evaluate_on_dataset(run, dataset, chosen_split(split), groups, worst, _Names(key, names))
            else:
                selection = _select_heads(package, family or [ALL], heads, lesion_free, study or [], seed0)
                for each in selection.studies:
                    refuse_overlap(each, results)
                evaluation = _evaluate_on_heads(run, selection, spacing)
    except OSError as exc:  # in OUT or in the folder of the model
        raise refuse(f"{exc.filename or results} cannot be written: {exc.strerror or exc}.", FAILED) from exc
    print(f"Tables and report: {results / PAGE_FILE}")
    if evaluation.unmeasured:
        raise typer.Exit(FAILED)


@dataclass(frozen=True, slots=True)
class _Run:
    """What both kinds of evaluation need."""

    package: "ModelPackage"
    out: Path
    device: "torch.device"
    threads: int
    workers: int
    seed: int
    without: "tuple[tuple[Role, ...], ...]"
    """Collections of channels without which every case is measured once more."""
    explained: Callable[[str], str] = str
    """Adds names to a sentence with the hashes of cases."""


@dataclass(frozen=True, slots=True)
class _Names:
    """Where the names of the cases of a data set come from, and whether the site's own are shown."""

    key: Path | None
    all_names: bool


def _evaluate_on_dataset(
    run: _Run, folder: Path, split: "Split | None", groups: Path | None, worst: int, names: "_Names"
) -> "Evaluation":
    from models.training.dataset.dataset import read_dataset
    from models.training.dataset.lineage import find_overlap, read_lineage
    from models.training.dataset.manifest import Annotator
    from models.training.evaluation.cases import select_dataset_cases
    from models.training.evaluation.figures import worst_cases
    from models.training.evaluation.measure_case import MeasureSettings
    from models.training.evaluation.report_page import write_evaluation
    from models.training.evaluation.subgroups import read_groups, with_focality
    from models.training.evaluation.subset_table import subset_table
    from models.training.evaluation.summary import EvaluatedDataset, Evaluation

    package, dataset = run.package, read_dataset(folder)
    refuse_overlap(folder, run.out)
    cases, unmeasured = select_dataset_cases(dataset, split, package)
    # A wrong file is refused now, and not after an hour.
    chosen = dataset.cases if split is None else dataset.of(split)
    groupings = read_groups(groups, [case.case_id for case in chosen]) if groups else ()
    lineage, key = read_lineage(package), dataset.manifest.key
    for sentence in find_overlap(lineage, key, {case.patient for case in chosen}).warnings():
        complain(sentence)
    settings = MeasureSettings(package.folder.resolve(), device=run.device.type, threads=run.threads)
    run = replace(run, explained=name_cases(names.key, [case.case_id for case in chosen], names.all_names))
    for each in unmeasured:
        _say_unmeasured(run, each)
    for label in package.labels:
        drawn = [case.stored.annotators.get(label.name) for case in cases]
        if nobody := drawn.count(Annotator.NOBODY):
            complain(
                f"Nobody annotated {label.name} in {nobody} of {len(cases)} cases, where it counts as empty because "
                "the data set was made with --missing-is-empty: all that is found there counts as false."
            )
        if absent := drawn.count(None):
            complain(f"{label.name} is absent from {absent} of {len(cases)} cases, which are not scored on it.")
        if programs := drawn.count(Annotator.PROGRAM):
            complain(
                f"A program drew {label.name} in {programs} of {len(cases)} cases, and nobody corrected it: what is "
                "measured there is how far the model agrees with the program."
            )
    measured = _measure(run, cases, settings, lambda scores: worst_cases(scores, worst))
    if not measured.cases:
        raise refuse(f"None of the {len(chosen)} cases could be measured, so there is no report.", FAILED)
    patients = {score.case.patient for score in measured.cases if score.case.patient is not None}
    evaluation = Evaluation(
        package,
        measured.cases,
        (*unmeasured, *measured.unmeasured),
        with_focality(groupings, {score.case.case_id: score.foci for score in measured.cases}),
        run.seed,
        EvaluatedDataset(dataset.fingerprint, split, find_overlap(lineage, key, patients)),
        measured.reduced,
    )
    write_evaluation(evaluation, measured.figures, this_command(), run.out)
    for summary in evaluation.labels:
        print(_in_short(summary))
    if (by_channels := subset_table(evaluation)) is not None:
        print(f"\n{by_channels.caption}:\n\n{by_channels.markdown}\n")
    return evaluation


def _in_short(summary: "LabelSummary") -> str:
    """Return the Dice of a label in one line: where both masks are empty it is 1, which says nothing of finding."""
    present, all_cases = len(summary.present), len(summary.scores)
    if summary.median_dice is None:
        return f"{summary.label}: none of {all_cases} cases holds it, so nothing is known of how well it is found"
    empty = f"; it is in none of the other {all_cases - present}" if present < all_cases else ""
    return f"{summary.label}: median Dice {summary.median_dice:.3f} over {present} cases{empty}"


def _evaluate_on_heads(run: _Run, selection: "SyntheticSelection", spacing_mm: float) -> "Evaluation":
    from models.training.evaluation.card_tables import card_tables
    from models.training.evaluation.evaluation_card import write_card
    from models.training.evaluation.figures import representatives
    from models.training.evaluation.measure_case import MeasureSettings
    from models.training.evaluation.report_page import write_evaluation
    from models.training.evaluation.subgroups import by_case_group
    from models.training.evaluation.summary import Evaluation

    package, command = run.package, this_command()
    settings = MeasureSettings(package.folder.resolve(), spacing_mm, run.device.type, run.threads)
    measured = _measure(run, selection.cases, settings, representatives)
    if not measured.cases:
        raise refuse("Nothing could be measured, so the model card was left as it is.", FAILED)
    groupings = (by_case_group(measured.cases),)
    evaluation = Evaluation(
        package, measured.cases, measured.unmeasured, groupings, run.seed, None, measured.reduced, spacing_mm
    )
    write_evaluation(evaluation, measured.figures, command, run.out)
    write_card(evaluation, measured.figures, command)
    for table in card_tables(evaluation):
        print(f"\n{table.caption}\n\n{table.markdown}")
    print(f"\nCard, pictures and metrics are in {package.folder}.")
    return evaluation


def _measure(
    run: _Run,
    cases: "Sequence[EvaluationCase]",
    settings: "MeasureSettings",
    choose_figures: "Callable[[Sequence[CaseScore]], Sequence[Choice]]",
) -> "Measurement":
    """Measure cases; print a line for each that is measured, and how many an earlier run measured."""
    from models.training.evaluation.case_channels import with_fewer_channels
    from models.training.evaluation.cases import Unmeasured
    from models.training.evaluation.measure_cases import measure_cases

    everything = (*cases, *with_fewer_channels(cases, run.package, run.without))

    def show(done: int, newest: "CaseScore | Unmeasured | None") -> None:
        if newest is None:
            print(f"Measured by an earlier run, and kept: {done} of {len(everything)}.", flush=True)
        elif isinstance(newest, Unmeasured):
            _say_unmeasured(run, newest)
        else:
            labels = ", ".join(
                f"{score.label} {f'{score.dice:.2f}' if score.is_present else '-'} "
                f"({score.found_ml:.1f} of {score.true_ml:.1f} ml)"
                for score in newest.labels
            )
            print(run.explained(f"{done} of {len(everything)}: {newest.case.title}: {labels}"), flush=True)

    return measure_cases(everything, settings, run.out, run.workers, show, choose_figures)


def _left_out(package: "ModelPackage", given: list[str], synthetic: bool) -> "tuple[tuple[Role, ...], ...]":
    """Return the channels of each --without; refuse what cannot be left out."""
    from models.labels import Role
    from models.training.evaluation.case_channels import check_without

    try:
        wanted = tuple(tuple(Role(word.strip()) for word in each.split(",")) for each in given)
        for roles in wanted:
            check_without(package, roles)
    except ValueError as exc:
        raise refuse(f"--without cannot be used: {exc}.") from exc
    if synthetic and any(Role.T1CE in roles for roles in wanted):
        raise refuse("--without T1CE goes with a data set: heads are compared on the grid of their T1CE.")
    return wanted


def _split_places(places: list[Path], synthetic: bool) -> tuple[Path | None, Path | None]:
    """Return the data set (None with --synthetic) and OUT (None where it is not given); refuse what is neither."""
    from models.training.dataset.manifest import MANIFEST_FILE

    are_datasets = [(place / MANIFEST_FILE).is_file() for place in places]
    if synthetic:
        if len(places) > 1 or any(are_datasets):
            raise refuse("--synthetic measures no data set: give OUT alone, or leave out --synthetic.")
        return None, places[0] if places else None
    if not places or len(places) > 2:
        raise refuse("Say what to measure on: a folder that `glionode dataset` made and then OUT, or --synthetic.")
    if are_datasets == [False, True]:
        raise refuse(f"{places[1]} is a data set and {places[0]} is none: the order is `evaluate MODEL DATASET OUT`.")
    return places[0], places[1] if len(places) == 2 else None


def _select_heads(
    package: "ModelPackage", names: list[str], heads: int, lesion_free: int, studies: list[Path], first_seed: int
) -> "SyntheticSelection":
    """Return the heads and studies to measure; refuse, before any work, what cannot be measured."""
    families = _chosen_families(names)
    if heads + lesion_free and set(families) - {Family.PAINTED} and importlib.util.find_spec("nilearn") is None:
        raise refuse(
            "Brains of heads that are not `painted` come with nilearn, which is not installed here; install "
            "glionode[train], or say --family painted."
        )
    for folder in studies:
        if not (folder / "dicom").is_dir():
            raise refuse(f"{folder} has no folder `dicom`; give a folder as `glionode phantom` writes it.")
    from models.training.evaluation.cases import SyntheticSelection
    from models.training.evaluation.measure_cases import refuse_other_labels

    try:
        refuse_other_labels(package)
        return SyntheticSelection(families, heads, lesion_free, tuple(studies), first_seed)
    except ValueError as exc:
        raise refuse(f"These settings cannot be used: {exc}.") from exc


def _chosen_families(names: list[str]) -> tuple[Family, ...]:
    """Return the families of these names, in their own order; refuse an unknown name."""
    if unknown := [name for name in names if name not in (*Family, ALL)]:
        raise refuse(f"Family {unknown[0]!r} is unknown; choose among {', '.join(Family)} and {ALL}.")
    return tuple(family for family in Family if ALL in names or family in names)


def _refuse_without_training_extra() -> None:
    for module, what in (("matplotlib", "The report's figures"), ("nibabel", "Measuring")):
        if importlib.util.find_spec(module) is None:
            raise refuse(f"{what} needs {module}, which is not installed here; install glionode[train].")


def _say_unmeasured(run: _Run, unmeasured: "Unmeasured") -> None:
    complain(run.explained(f"Not measured, {unmeasured.case.title}: {unmeasured.reason}"))
