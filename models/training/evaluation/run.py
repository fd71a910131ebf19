"""Measure a package case by case, in several processes, and keep each case as it comes, so that a run can go on."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from models.labels import LABELS, Role
from models.package import ModelPackage
from models.training.evaluation.code_fingerprint import fingerprint
from models.training.evaluation.families import Evaluation, Place, Scored, representatives
from models.training.evaluation.journal import Journal, open_journal
from models.training.evaluation.measure_case import MeasuredCase, Measuring, Unmeasured
from models.training.evaluation.process_pool import Died, in_lanes
from models.training.evaluation.synthetic_cases import Case, Wanted
from models.weights import load_network


@dataclass(frozen=True, slots=True)
class Figure:
    """A case that stands for its group, drawn."""

    group: str
    place: Place
    scored: Scored
    png: bytes

    @property
    def file_name(self) -> str:
        """In the package's folder."""
        return f"{self.group}-{self.place.value}.png"


@dataclass(frozen=True, slots=True)
class Seen:
    """One case, as it is measured or found among those that were."""

    scored: Scored
    known: bool
    """Whether an earlier run measured it."""


@dataclass(frozen=True, slots=True)
class Run:
    """Where and how to measure."""

    wanted: Wanted
    measuring: Measuring
    work: Path
    """Folder for what was measured so far; it gets a folder for each model, code and setting."""
    processes: int = 1


def evaluate(
    package: ModelPackage, run: Run, see: Callable[[Seen | Unmeasured], None]
) -> tuple[Evaluation, tuple[Figure, ...]]:
    """Measure all cases but those that the folder knows already; `see` meets each, in whatever order they come.

    A case that fails does not end the others, nor does a process that dies. Raises ValueError for a package that has
    not the node's labels, PackageBroken where its weights are, JournalBusy, and OSError where nothing can be kept.
    """
    refuse_mismatch(package)
    load_network(package)
    with open_journal(run.work / fingerprint(run.measuring)[:12]) as journal:
        cases = run.wanted.cases
        names = {case: case.case_id for case in cases}
        done: dict[Case, Scored] = {}
        left_out: dict[Case, str] = {}
        for case in cases:
            if (scores := journal.scores(names[case])) is not None:
                done[case] = Scored(case, scores)
                see(Seen(done[case], known=True))
        missing = [case for case in cases if case not in done]
        for result in _measured(missing, run):
            if isinstance(result, Unmeasured):
                left_out[result.case] = result.why
                see(result)
                continue
            journal.keep(names[result.case], result.labels, result.picture)
            done[result.case] = Scored(result.case, result.labels)
            see(Seen(done[result.case], known=False))
        evaluation = Evaluation(
            package,
            tuple(done[case] for case in cases if case in done),
            tuple((case, left_out[case]) for case in cases if case in left_out),
            run.measuring.spacing_mm,
        )
        return evaluation, _figures(evaluation, journal, names)


def refuse_mismatch(package: ModelPackage) -> None:
    """Raise ValueError where a package has not the labels or not the sequences of a synthetic head."""
    names = {label.name for label in package.labels}
    if names != {label.name for label in LABELS}:
        raise ValueError(
            f"model {package.name} finds {', '.join(sorted(names))}, and the truth of heads is "
            f"{', '.join(label.name for label in LABELS)}; fine-tune it first"
        )
    if Role.T1CE not in package.channels:
        raise ValueError(f"model {package.name} does not take T1CE, onto which everything is aligned")


def _measured(cases: Sequence[Case], run: Run) -> Iterator[MeasuredCase | Unmeasured]:
    with closing(in_lanes(run.measuring, cases, run.processes)) as results:
        for result in results:
            if isinstance(result, Died):
                how = f"its process ended with {result.exit_code}"
                yield Unmeasured(result.piece, f"{how}; -9 is a lack of memory, which fewer --workers want less of")
            else:
                yield result


def _figures(evaluation: Evaluation, journal: Journal, names: dict[Case, str]) -> tuple[Figure, ...]:
    figures = []
    for group in evaluation.groups:
        members = [
            scored for scored in evaluation.cases if scored.case.group == group.group and not scored.is_lesion_free
        ]
        for place, scored in representatives(members):
            if (png := journal.picture(names[scored.case])) is not None:
                figures.append(Figure(group.group, place, scored, png))
    return tuple(figures)
