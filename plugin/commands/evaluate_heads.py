"""What `glionode evaluate --synthetic` does: a model on synthetic heads and on studies whose truth is known."""

import importlib.util
from typing import TYPE_CHECKING

import typer

from models.training.synthetic.families import Family
from plugin.commands.heads_asked import HeadsAsked
from plugin.commands.model_arguments import this_command
from plugin.commands.terminal import FAILED, complain, refuse

if TYPE_CHECKING:
    from models.package import ModelPackage
    from models.training.evaluation.measure_case import Unmeasured
    from models.training.evaluation.run import Seen
    from models.training.evaluation.synthetic_cases import Wanted


def evaluate_on_heads(package: "ModelPackage", asked: HeadsAsked) -> None:
    """Measure, print the tables, and write the model card with its pictures and metrics.json."""
    wanted = _wanted(asked)
    from models.package import PackageBroken
    from models.training.evaluation.journal import JournalBusy
    from models.training.evaluation.measure_case import Measuring
    from models.training.evaluation.run import Run, evaluate
    from models.training.evaluation.score_tables import tables
    from models.training.evaluation.synthetic_card import write_results
    from pipeline.segment import pick_device

    try:
        device = pick_device(asked.device).type
        measuring = Measuring(package.folder.resolve(), asked.spacing_mm, device, asked.threads)
        progress = _Progress(len(wanted.cases))
        evaluation, figures = evaluate(package, Run(wanted, measuring, asked.work, asked.workers), progress.see)
        if not evaluation.cases:
            raise refuse("Nothing could be measured, so the model card was left as it is.", FAILED)
        write_results(evaluation, figures, this_command())
    except PackageBroken as exc:
        raise refuse(str(exc), FAILED) from exc
    except JournalBusy as exc:
        raise refuse(f"Not measured: {exc}.", FAILED) from exc
    except ValueError as exc:
        raise refuse(f"These settings cannot be used: {exc}.") from exc
    except OSError as exc:
        raise refuse(f"{exc.filename or asked.work} cannot be written: {exc.strerror or exc}.", FAILED) from exc
    progress.tell_known()
    for table in tables(evaluation):
        print(f"\n{table.title}\n\n{table.markdown}")
    print(f"\nCard, pictures and metrics are in {package.folder}.")
    if evaluation.left_out:
        raise typer.Exit(FAILED)


def _wanted(asked: HeadsAsked) -> "Wanted":
    """The cases, refused here and now where they cannot be measured."""
    from models.training.evaluation.synthetic_cases import Wanted

    if importlib.util.find_spec("nibabel") is None:
        raise refuse("Measuring needs nibabel, which is not installed here; install glionode[train].")
    if (
        asked.heads + asked.lesion_free
        and set(asked.families) - {Family.PAINTED}
        and importlib.util.find_spec("nilearn") is None
    ):
        raise refuse(
            "Brains of heads that are not `painted` come with nilearn, which is not installed here; install "
            "glionode[train], or say --family painted."
        )
    for folder in asked.studies:
        if not (folder / "dicom").is_dir():
            raise refuse(f"{folder} has no folder `dicom`; give a folder as `glionode phantom` writes it.")
    try:
        return Wanted(asked.families, asked.heads, asked.lesion_free, asked.studies, asked.seed0)
    except ValueError as exc:
        raise refuse(f"These settings cannot be used: {exc}.") from exc


class _Progress:
    """A line for each case; those that an earlier run measured are counted only."""

    def __init__(self, cases: int) -> None:
        self._cases = cases
        self._seen = 0
        self._known = 0

    def see(self, seen: "Seen | Unmeasured") -> None:
        """One more."""
        from models.training.evaluation.measure_case import Unmeasured
        from models.training.evaluation.score_tables import name_of

        self._seen += 1
        if isinstance(seen, Unmeasured):
            complain(f"Not measured, {seen.case.group}, {name_of(seen.case)}: {seen.why}")
            return
        if seen.known:
            self._known += 1
            return
        self.tell_known()
        scored = seen.scored
        parts = []
        for label in scored.labels:
            value = f"{label.dice:.2f}" if label.is_there else "-"
            parts.append(f"{label.label} {value} ({label.found_ml:.1f} of {label.true_ml:.1f} ml)")
        place = f"{self._seen} of {self._cases}"
        print(f"{place}: {scored.case.group}, {name_of(scored.case)}: {', '.join(parts)}", flush=True)

    def tell_known(self) -> None:
        """Say how many cases an earlier run measured, once."""
        if self._known:
            print(f"Measured by an earlier run, and kept: {self._known} of {self._cases}.", flush=True)
            self._known = 0
