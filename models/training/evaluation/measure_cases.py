"""Measure cases in several processes, and keep each as it is measured, so that a run that was ended can go on."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from models.labels import PAPER_LABELS, Role
from models.package import ModelPackage, read_package
from models.training.evaluation.case_channels import absent_channels
from models.training.evaluation.case_score import CaseScore
from models.training.evaluation.cases import EvaluationCase, Unmeasured
from models.training.evaluation.code_fingerprint import fingerprint
from models.training.evaluation.figures import Choice, Figure
from models.training.evaluation.journal import open_journal
from models.training.evaluation.measure_case import MeasuredCase, MeasureSettings
from models.training.evaluation.process_pool import ProcessDied, run_in_processes
from models.weights import load_network


@dataclass(frozen=True, slots=True)
class Measurement:
    """The scores of the cases that could be measured, in the order given."""

    cases: tuple[CaseScore, ...]
    reduced: tuple[CaseScore, ...]
    """Those from which channels were left out on purpose."""
    unmeasured: tuple[Unmeasured, ...]
    figures: tuple[Figure, ...]
    """Pictures of the cases that were chosen."""


def measure_cases(
    cases: Sequence[EvaluationCase],
    settings: MeasureSettings,
    folder: Path,
    processes: int,
    report: Callable[[int, CaseScore | Unmeasured | None], None],
    choose_figures: Callable[[Sequence[CaseScore]], Sequence[Choice]],
) -> Measurement:
    """Measure all cases but those that the folder's journal holds.

    `report` gets how many cases are done and the newest of them, in whatever order they come; before them, where an
    earlier run measured cases, it gets once how many these are, and None.

    The journal lies in a folder below `folder`, one for each model, code and setting. A case that fails, or whose
    process dies, ends no other. Raises PackageBroken, JournalBusy, and OSError where nothing can be kept.
    """
    package = read_package(settings.package_folder)
    load_network(package)
    with open_journal(folder / fingerprint(settings)[:12]) as journal:
        keys = {case: case.journal_key for case in cases}
        scores: dict[EvaluationCase, CaseScore] = {}
        unmeasured: dict[EvaluationCase, Unmeasured] = {}
        for case in cases:
            if (entry := journal.entry(keys[case])) is not None:
                scores[case] = CaseScore(case, entry.labels, entry.foci, absent_channels(case, package))
        if scores:
            report(len(scores), None)
        for result in _measure([case for case in cases if case not in scores], settings, processes):
            if isinstance(result, Unmeasured):
                unmeasured[result.case] = result
            else:
                score = result.score
                journal.keep(keys[score.case], score.labels, score.foci, result.overlay)
                scores[score.case] = score
            report(len(scores) + len(unmeasured), result if isinstance(result, Unmeasured) else result.score)
        measured, reduced = (
            tuple(scores[case] for case in cases if case in scores and bool(case.without) is fewer)
            for fewer in (False, True)
        )
        figures = tuple(
            Figure(score, overlay, rank)
            for rank, score in choose_figures(measured)
            if (overlay := journal.overlay(keys[score.case])) is not None
        )
        return Measurement(measured, reduced, tuple(unmeasured[case] for case in cases if case in unmeasured), figures)


def refuse_other_labels(package: ModelPackage) -> None:
    """Raise ValueError where a package finds none of the labels of synthetic heads, or does not take T1CE."""
    names = {label.name for label in package.labels}
    if not names & {label.name for label in PAPER_LABELS}:
        raise ValueError(
            f"model {package.name} finds {', '.join(sorted(names))}, and the truth of heads is "
            f"{', '.join(label.name for label in PAPER_LABELS)}; fine-tune it first"
        )
    if Role.T1CE not in package.channels:
        raise ValueError(f"model {package.name} does not take T1CE, onto which everything is aligned")


def _measure(
    cases: Sequence[EvaluationCase], settings: MeasureSettings, processes: int
) -> Iterator[MeasuredCase | Unmeasured]:
    with closing(run_in_processes(settings, cases, processes)) as results:
        for result in results:
            if isinstance(result, ProcessDied):
                ended = f"its process ended with {result.exit_code}"
                yield Unmeasured(result.piece, f"{ended}; -9 is a lack of memory, which fewer --workers need less of")
            else:
                yield result
