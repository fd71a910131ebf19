"""Segment studies in the worker process, with everything that can be loaded before the first one loaded."""

import gc
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from plugin.jobs.prior_results import PriorResults
from plugin.settings.sections import Settings
from plugin.sources.site_rules import SiteRules
from plugin.worker.context import WorkerContext, open_worker_context
from plugin.worker.stopwatch import Stopwatch

_LOG = logging.getLogger(__name__)


def keep_for_good() -> None:
    """Load what a study's steps need, and spare Python from looking there for garbage; once, in a process of our own.

    A quarter of an encoding's time is such looks, at a few hundred thousand objects that stay for the process's life.
    """
    import plugin.worker.process_study  # noqa: F401 - loads the DICOM libraries

    gc.freeze()


@dataclass(frozen=True, slots=True)
class StudyOutcome:
    """What the worker process writes down of a study."""

    status: str
    reason: str | None
    output_paths: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class StudySegmenter:
    """Opens a workshop in the worker process and segments what it is given. Picklable."""

    settings: Settings

    def __call__(self) -> Callable[[Sequence[Path], Path, PriorResults, Callable[[str], None]], StudyOutcome]:
        """Load the model; the returned function takes a study's files, the folder for its results, what came before and
        who listens to its steps.
        """
        workshop = open_worker_context(self.settings)
        keep_for_good()
        rules = SiteRules(self.settings.rules_path)

        def segment(
            files: Sequence[Path], out: Path, past: PriorResults, on_step: Callable[[str], None]
        ) -> StudyOutcome:
            return segment_files(files, out, replace(workshop, rules=rules.current()), past, Stopwatch(on_step))

        return segment


def segment_files(
    files: Sequence[Path], out: Path, workshop: WorkerContext, past: PriorResults, watch: Stopwatch
) -> StudyOutcome:
    """Segment the study of these files; what of them cannot be read is logged."""
    from pipeline.scan import scan
    from plugin.worker.process_study import process_study

    found = scan(files)
    damaged = [each for each in found.ignored if each.damaged]
    if damaged:
        _LOG.warning(
            "%d of %d images cannot be read; %s is %s",
            len(damaged),
            len(files),
            damaged[0].path.stem,
            damaged[0].reason,
        )
    if not found.studies:
        why = f"; the first is {found.ignored[0].reason}" if found.ignored else ""
        return StudyOutcome("failed", f"None of {len(files)} files of the study can be read as DICOM{why}.", ())
    report = process_study(found.studies[0], workshop, out, watch, past)
    return StudyOutcome(report.status.value, report.reason, tuple(out / each.path for each in report.outputs))
