"""Refuse a folder for results that overlaps the input, or that holds what the results would replace."""

from collections.abc import Sequence
from pathlib import Path

from plugin.archive.report_reader import REPORT_FILE, read_report
from plugin.commands.terminal import refuse


def refuse_overlap(source: Path, out: Path) -> None:
    """End the command if `out` is `source`, or one of them lies in the other, through links and mounts as well.

    The results would be taken for input by the next run, and be handed on with the input.
    """
    if not source.exists():
        return
    if _is_or_lies_in(out, source):
        what = "is the input itself" if _is_or_lies_in(source, out) else f"lies in the input {source}"
    elif _is_or_lies_in(source, out):
        what = f"holds the input {source}"
    else:
        return
    raise refuse(
        f"The folder for results {out} {what}, so the next run would take results for input. Choose a folder beside it."
    )


def refuse_other_results(study_uids: Sequence[str], out: Path) -> None:
    """End the command if `out` holds results that are not those of an earlier run on the same studies.

    An earlier result of a study is replaced. Anything that would be overwritten, removed or left as a second result
    of a study is refused: results of other studies, and DICOM files that no report names.
    """
    if len(study_uids) > 1:
        if (out / REPORT_FILE).exists():
            raise refuse(
                f"{out} holds the results of a single study, and each of {len(study_uids)} studies gets a folder of "
                "its own. Choose another folder."
            )
        folders = {uid: out / uid for uid in study_uids}
    else:
        folders = dict.fromkeys(study_uids, out)
        if nested := [uid for uid in study_uids if (out / uid / REPORT_FILE).exists()]:
            raise refuse(
                f"{out} holds results of several studies in folders of their own, of study {nested[0]} too, which "
                "would have two results there. Choose another folder."
            )
    for uid, folder in folders.items():
        _refuse_foreign(uid, folder)


def _refuse_foreign(study_uid: str, folder: Path) -> None:
    """End the command if a folder for the results of one study holds others, or DICOM files of unknown origin."""
    report = read_report(folder)
    if report.study_instance_uid not in ("", study_uid):
        raise refuse(
            f"{folder} holds the results of study {report.study_instance_uid}, which those of study {study_uid} would "
            "replace. Choose another folder."
        )
    if strays := sorted({path.name for path in folder.glob("*.dcm")} - {each.file for each in report.written}):
        raise refuse(
            f"{folder} holds {strays[0]}, which no {REPORT_FILE} there names, and which results might overwrite. "
            "Choose an empty folder."
        )


def _is_or_lies_in(path: Path, folder: Path) -> bool:
    resolved = path.resolve()
    return any(_is_same(above, folder) for above in (resolved, *resolved.parents))


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of them does not exist yet
        return one == other.resolve()
