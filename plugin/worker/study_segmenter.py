"""Segment studies in the worker process, with model and libraries loaded in advance.

The process that starts the workers imports this module too, so what takes long is imported where it is used.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from models.malloc import return_freed_memory
from plugin.jobs.prior_results import PriorResults
from plugin.settings.sections import Settings
from plugin.sources.site_rules import SiteRules
from plugin.worker.garbage import loading
from plugin.worker.job_runner import OnStep, SegmentStudy, StudyOutcome
from plugin.worker.stopwatch import Stopwatch

if TYPE_CHECKING:
    from plugin.worker.context import WorkerContext

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StudySegmenter:
    """Loads the model in the worker process and returns the function that segments. Picklable."""

    settings: Settings

    def __call__(self) -> SegmentStudy:
        """Load the model and return the function that segments studies with it."""
        with loading():
            import plugin.worker.process_study  # noqa: F401 - loads the DICOM libraries
            from plugin.worker.context import open_worker_context

            context = open_worker_context(self.settings)
        rules = SiteRules(self.settings.rules_path)

        def segment(files: Sequence[Path], out: Path, prior_results: PriorResults, on_step: OnStep) -> StudyOutcome:
            current = replace(context, rules=rules.current())
            try:
                return segment_files(files, out, current, prior_results, Stopwatch(on_step))
            finally:
                return_freed_memory()

        return segment


def segment_files(
    files: Sequence[Path], out: Path, context: "WorkerContext", prior_results: PriorResults, stopwatch: Stopwatch
) -> StudyOutcome:
    """Segment the study of these files. Files that cannot be read are logged and left out."""
    from pipeline.scan import scan
    from plugin.worker.process_study import process_study

    found = scan(files)
    damaged = [each for each in found.ignored if each.damaged]
    if damaged:
        first = damaged[0]
        _LOG.warning(
            "%d of %d images cannot be read; %s is %s", len(damaged), len(files), first.path.stem, first.reason
        )
    if not found.studies:
        why = f"; the first is {found.ignored[0].reason}" if found.ignored else ""
        return StudyOutcome("failed", f"None of {len(files)} files of the study can be read as DICOM{why}.", ())
    if len(found.studies) > 1:
        uids = " and ".join(study.study_instance_uid for study in found.studies[:3])
        return StudyOutcome(
            "failed",
            f"The images of one study are of {len(found.studies)} by their headers, {uids}. Have them corrected in the "
            "archive, and send the study again.",
            (),
        )
    report = process_study(found.studies[0], context, out, stopwatch, prior_results)
    return StudyOutcome(report.status.value, report.reason, tuple(out / each.path for each in report.outputs))
