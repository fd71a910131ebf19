"""The command `glionode xnat-session`, run by XNAT's Container Service: a session in, outputs for XNAT out."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.errors import GlionodeError
from plugin.commands.options import ConfigOption
from plugin.commands.output_folder import refuse_other_results, refuse_overlap
from plugin.commands.segment import exit_with_worst, find_studies, segment_all
from plugin.commands.terminal import FAILED, complain, refuse

if TYPE_CHECKING:
    from plugin.archive.report import Report
    from plugin.xnat.session import XnatIds, XnatSession

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}")


def xnat_session(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="Session folder: SCANS/<id>/DICOM, or an unpacked download.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", file_okay=False, help="Folder for what XNAT imports.")],
    session_id: Annotated[
        str, typer.Option(help="XNAT's ID of the session.", show_default="from the session's XML")
    ] = "",
    project: Annotated[str, typer.Option(help="ID of its project.", show_default="from the session's XML")] = "",
    subject_id: Annotated[
        str, typer.Option(help="XNAT's ID of its subject.", show_default="from the session's XML")
    ] = "",
    model: Annotated[str, typer.Option(help="Model package by name.", show_default="from the settings")] = "",
    device: Annotated[str, typer.Option(help="auto, cuda or cpu.", show_default="from the settings")] = "",
    config: ConfigOption = None,
) -> None:
    """Segment an XNAT session, and prepare SEG and SR for import into XNAT as resource, scans and ROI collection.

    Needs no network and no password: Container Service mounts the session and imports OUT, as plugin/xnat/command.json
    says. Scan types from the session's XML, or from the folder names of a download, are additional evidence for
    choosing series. XNAT's archive, which Container Service mounts, has neither.

    OUT/results has everything that `glionode segment` writes. Scans and ROI collection need the IDs.

    Exit status: as of `segment`.
    """
    from plugin.settings.load import load_settings
    from plugin.worker.garbage import loading
    from plugin.xnat.outputs import RESULTS, remove_outputs, write_outputs
    from plugin.xnat.session import XnatIds, with_scan_types

    session = _find_session(source)
    refuse_overlap(source, out)
    ids = XnatIds(
        _checked("--session-id", session_id or session.ids.session_id),
        _checked("--project", project or session.ids.project),
        _checked("--subject-id", subject_id or session.ids.subject_id),
    )
    try:
        with loading():
            settings = load_settings(config)
            found = with_scan_types(find_studies(session.scans_folder), session)
            refuse_other_results([study.study_instance_uid for study in found.studies], out / RESULTS)
            import plugin.worker.process_study  # noqa: F401 - after what may fail, as in `segment`
            from plugin.worker.context import open_worker_context

            context = open_worker_context(settings, model, device)
        remove_outputs(out)
        reports = segment_all(found, context, out / RESULTS)
        segmented = [report for report in reports if report.status.value == "segmented"]
        if len(segmented) == 1:
            folder = out / RESULTS if len(reports) == 1 else out / RESULTS / segmented[0].study_instance_uid
            write_outputs(segmented[0], folder, out, ids)
    except GlionodeError as exc:
        raise refuse(str(exc), FAILED) from exc
    except OSError as exc:
        raise refuse(f"The outputs of an earlier run cannot be removed from {out}: {exc.strerror}.", FAILED) from exc
    except ValueError as exc:
        raise refuse(f"{exc}.") from exc
    _report_left_out(segmented, ids)
    exit_with_worst(reports)


def _find_session(source: Path) -> "XnatSession":
    from plugin.xnat.session import find_sessions

    sessions = find_sessions(source)
    if len(sessions) != 1:
        what = f"holds {len(sessions)} XNAT sessions" if sessions else "is not an XNAT session: it has no folder SCANS"
        raise refuse(
            f"{source} {what}. Give one session's folder in the archive, or an unpacked download of it; for other "
            "layouts use `glionode segment`."
        )
    session = sessions[0]
    for path in session.unreadable:
        complain(f"{path} is not valid XML or is too large; scan types and IDs in it are not used.")
    return session


def _checked(option: str, value: str) -> str:
    """Return a valid ID; a malformed one is refused without being printed, because it may be a patient's name."""
    if value and not _ID.fullmatch(value):
        raise refuse(f"The value of {option} is not an XNAT ID; use only letters, digits, '_', '-' and '.'.")
    return value


def _report_left_out(segmented: "list[Report]", ids: "XnatIds") -> None:
    if len(segmented) > 1:
        complain(
            "The session has several studies, so no scan is written for XNAT; the results are in a folder per study."
        )
    elif segmented and not ids.session_id:
        complain("The session's ID is not known; give --session-id. No scan is written.")
    elif segmented and not (ids.project and ids.subject_id):
        complain("Project or subject is not known; give --project and --subject-id. No ROI collection is written.")
