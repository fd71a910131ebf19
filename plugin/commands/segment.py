"""The command `glionode segment`: segment a folder of DICOM files without server or database."""

import logging
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.errors import GlionodeError
from plugin.commands.options import ConfigOption
from plugin.commands.output_folder import refuse_other_results, refuse_overlap
from plugin.commands.terminal import FAILED, NOT_ELIGIBLE, WRONG_USAGE, complain, refuse, refusing, step_display

if TYPE_CHECKING:
    from pipeline.result import LabelMeasurement
    from pipeline.rules import Rules
    from pipeline.study import Scan
    from plugin.archive.report import Report
    from plugin.worker.context import WorkerContext

logger = logging.getLogger(__name__)


def segment(
    source: Annotated[
        Path,
        typer.Argument(metavar="IN", help="DICOM file, or folder in any layout; other files are ignored."),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", file_okay=False, help="Folder for SEG, SR and report.json.")],
    model: Annotated[str, typer.Option(help="Model package by name.", show_default="from the settings")] = "",
    device: Annotated[str, typer.Option(help="auto, cuda or cpu.", show_default="from the settings")] = "",
    config: ConfigOption = None,
) -> None:
    """Segment every study in IN and write SEG, SR and report.json to OUT.

    A single study is written to OUT itself, several studies to a folder each, named by study UID. An earlier result of
    a study is replaced; OUT must not lie in IN, nor hold results of other studies. T1CE, FLAIR and ADC
    are chosen by series description and headers; `glionode explain IN` shows how. Results of a demonstration model say
    so and are not for patients.

    Exit status: 0 all studies segmented, 1 a study failed, 2 a study is not eligible, 64 wrong usage.
    """
    from plugin.commands.early_scan import begin_scan
    from plugin.worker.garbage import loading

    refuse_overlap(source, out)
    try:
        with loading():
            from plugin.settings.load import load_settings

            settings = load_settings(config)
            _require(source)
            scanned = begin_scan(source)
            # Loads PyTorch and the DICOM libraries, which takes a second or more.
            import plugin.worker.process_study  # noqa: F401
            from plugin.worker.context import open_worker_context

            found = _with_studies(scanned(), source)
            refuse_other_results([study.study_instance_uid for study in found.studies], out)
            context = open_worker_context(settings, model, device)
    except GlionodeError as exc:
        raise refuse(str(exc), FAILED) from exc
    except ValueError as exc:
        raise refuse(f"{exc}.") from exc
    exit_with_worst(segment_all(found, context, out))


def exit_with_worst(reports: "list[Report]") -> None:
    """Exit with status 1 if a study failed, else with 2 if one is not eligible; otherwise return."""
    statuses = {report.status.value for report in reports}
    if "failed" in statuses:
        raise typer.Exit(FAILED)
    if "not_eligible" in statuses:
        raise typer.Exit(NOT_ELIGIBLE)


def find_studies(source: Path) -> "Scan":
    """Return the studies in a file or folder; report damaged files on standard error. Raises StudyUnreadable."""
    from pipeline.scan import scan

    _require(source)
    return _with_studies(scan([source]), source)


def _require(source: Path) -> None:
    if not source.exists():
        raise refuse(f"{source} does not exist. Give the file or folder that holds the images.")


def _with_studies(found: "Scan", source: Path) -> "Scan":
    from pipeline.errors import StudyUnreadable

    for ignored in found.ignored:
        if ignored.damaged:
            complain(f"{ignored.path}: {ignored.reason}")
    if not found.studies:
        raise StudyUnreadable(
            f"{source} holds no DICOM study ({len(found.ignored)} other files). Give the folder that holds the images."
        )
    return found


def load_site_rules(config: Path | None) -> "Rules":
    """Return the rules for choosing series, with the site's own; exit with an error that names file and line."""
    from pipeline.rules import load_rules
    from plugin.settings.load import load_settings

    with refusing(GlionodeError, status=WRONG_USAGE):
        return load_rules(load_settings(config).rules_path)


def segment_all(found: "Scan", context: "WorkerContext", out: Path) -> "list[Report]":
    """Segment the studies into `out`, or into a folder each if there are several, and print the results."""
    from plugin.jobs.prior_results import PriorResults
    from plugin.worker.process_study import defect_report, process_study, write_failure
    from plugin.worker.stopwatch import STEPS, Stopwatch

    reports = []
    prior_results = PriorResults(datetime.now().astimezone())
    with step_display(STEPS) as display:
        for number, study in enumerate(found.studies, start=1):
            display.begin(f"study {number} of {len(found.studies)}")
            folder = out if len(found.studies) == 1 else out / study.study_instance_uid
            watch = Stopwatch(display.step)
            try:
                reports.append(process_study(study, context, folder, watch, prior_results))
            except Exception as exc:
                logger.info("study %s failed", study.study_instance_uid, exc_info=exc)
                reports.append(write_failure(defect_report(study, context, watch, exc), folder))
    for report in reports:
        _print_result(report)
    return reports


def _print_result(report: "Report") -> None:
    uid = report.study_instance_uid
    if report.reason is not None:
        complain(f"Study {uid}: {report.status.value.replace('_', ' ')}. {report.reason}")
        return
    volumes = ", ".join(f"{entry.label.title.lower()} {_volume(entry)}" for entry in report.labels)
    seconds = next(entry.seconds for entry in report.timings if entry.step == "total")
    print(f"Study {uid}: {volumes} ({report.device}, {seconds:.1f} s; {report.model.intended_use.value} model)")
    for remark in report.remarks:
        print(f"  Remark: {remark.text}")
    for description, outputs in groupby(report.outputs, key=lambda output: output.series_description):
        first, *others = outputs
        last = f" to {others[-1].path}" if others else ""
        print(f"  {first.path}{last}  {description}")


def _volume(entry: "LabelMeasurement") -> str:
    if not entry.assessed:
        return "not found in the part of the head that was seen"
    return f"{entry.volume_ml:.1f} ml" + ("" if entry.seen_share >= 1 else " in the part of the head that was seen")
