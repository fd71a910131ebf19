"""The command `glionode xnat-session`: a session of XNAT in, what XNAT takes in out. Its Container Service runs it."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.errors import GlionodeError
from plugin.commands.segment import ConfigOption, exit_with_worst, find_studies, segment_all
from plugin.commands.terminal import FAILED, complain, refuse

if TYPE_CHECKING:
    from plugin.archive.report import Report
    from plugin.xnat.session import XnatSession

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}")


def xnat_session(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="Session folder: SCANS/<id>/DICOM, or an unpacked download.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", file_okay=False, help="Folder for what XNAT takes in.")],
    session_id: Annotated[
        str, typer.Option(help="XNAT's ID of the session.", show_default="of the session's XML")
    ] = "",
    project: Annotated[str, typer.Option(help="ID of its project.", show_default="of the session's XML")] = "",
    subject_id: Annotated[
        str, typer.Option(help="XNAT's ID of its subject.", show_default="of the session's XML")
    ] = "",
    model: Annotated[str, typer.Option(help="Model package by name.", show_default="of the settings")] = "",
    device: Annotated[str, typer.Option(help="auto, cuda or cpu.", show_default="of the settings")] = "",
    config: ConfigOption = None,
) -> None:
    """Segment an XNAT session, and lay SEG and SR out for XNAT to take in as resource, scans and ROI collection.

    Talks to nobody and needs no password: Container Service mounts the session and takes OUT in, as
    plugin/xnat/command.json says. The scan types of the session's XML, or of a download's folder names, are one more
    hint on what a series is. XNAT's archive itself, which Container Service mounts, has neither.

    OUT/results has everything that `glionode segment` writes. Scans and ROI collection need the IDs.

    Exit status: as of `segment`.
    """
    from plugin.settings.load import load_settings
    from plugin.worker.context import open_worker_context
    from plugin.worker.study_segmenter import keep_for_good
    from plugin.xnat.documents import Place
    from plugin.xnat.outputs import RESULTS, clear, lay_out
    from plugin.xnat.session import with_scan_types

    session = _session_of(source)
    place = Place(
        _checked("--session-id", session_id or session.session_id),
        _checked("--project", project or session.project),
        _checked("--subject-id", subject_id or session.subject_id),
    )
    try:
        settings = load_settings(config)
        found = with_scan_types(find_studies(session.scans_folder), session)
        workshop = open_worker_context(settings, model, device)
        keep_for_good()
        clear(out)
        reports = segment_all(found, workshop, out / RESULTS)
        segmented = [report for report in reports if report.status.value == "segmented"]
        if len(segmented) == 1:
            folder = out / RESULTS if len(reports) == 1 else out / RESULTS / segmented[0].study_instance_uid
            lay_out(segmented[0], folder, out, place)
    except GlionodeError as exc:
        raise refuse(str(exc), FAILED) from exc
    except OSError as exc:
        raise refuse(f"{out} cannot be cleared of an earlier run's results: {exc.strerror}.", FAILED) from exc
    except ValueError as exc:
        raise refuse(f"{exc}.") from exc
    _say_what_is_missing(segmented, place.session_id, place.project and place.subject_id)
    exit_with_worst(reports)


def _session_of(source: Path) -> "XnatSession":
    from plugin.xnat.session import find_sessions

    sessions = find_sessions(source)
    if len(sessions) != 1:
        what = f"holds {len(sessions)} XNAT sessions" if sessions else "is no XNAT session: it has no folder SCANS"
        raise refuse(
            f"{source} {what}. Give one session's folder in the archive, or an unpacked download of it; for other "
            "layouts use `glionode segment`."
        )
    session = sessions[0]
    for path in session.unreadable:
        complain(f"{path}: is not readable as XML; the scan types in it are not used.")
    return session


def _checked(option: str, value: str) -> str:
    """IDs go into XML and into labels; an odd one is refused without being repeated, for it may be a name."""
    if value and not _ID.fullmatch(value):
        raise refuse(f"The value for {option} is no ID of XNAT: letters, digits, '_', '-' and '.' only.")
    return value


def _say_what_is_missing(segmented: "list[Report]", session_id: str, owner: str) -> None:
    if len(segmented) > 1:
        complain("The session holds several studies: their results lie in folders, no scan is laid out for XNAT.")
    elif segmented and not session_id:
        complain("The session's ID is not known (no session XML, no --session-id): no scan is laid out for XNAT.")
    elif segmented and not owner:
        complain("Project or subject is not known (--project, --subject-id): no ROI collection is laid out for XNAT.")
