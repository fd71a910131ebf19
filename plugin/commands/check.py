"""The command `glionode check`: check SEG, SR and secondary captures in files."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.errors import GlionodeError
from plugin.commands.terminal import FAILED, WRONG_USAGE, refusing

if TYPE_CHECKING:
    from dicom_seg.check import CheckedObject


def check(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="File or folder with SEG, SR and secondary captures.")],
    study: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder with the images they refer to.", show_default="PATH"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: one JSON array of objects.")] = False,
) -> None:
    """Check SEG, SR and secondary captures of any origin, as the node checks its own before it sends them.

    References must resolve; geometry, patient and study must be those of the source images; every SEG frame must have
    the position of its source image; voxels must be 0 or 1; UIDs must be valid and unique; measurements must be
    plausible and agree with the segments. What cannot be checked without the images is listed as not checked.

    Exit status: 0 nothing is wrong, 1 something is wrong, 64 nothing to check.
    """
    from dicom_seg.check_files import check_files

    with refusing(GlionodeError, status=WRONG_USAGE):
        checked = check_files(path, study)
    print(json.dumps([_document(each) for each in checked], indent=1) if as_json else _sentences(checked))
    if any(each.problems for each in checked):
        raise typer.Exit(FAILED)


def _document(checked: "CheckedObject") -> dict[str, object]:
    return {
        "path": checked.file_name,
        "sop_class_uid": checked.sop_class_uid,
        "problems": list(checked.problems),
        "not_checked": list(checked.not_checked),
    }


def _sentences(checked: "tuple[CheckedObject, ...]") -> str:
    lines = [f"{each.file_name}: {problem}" for each in checked for problem in each.problems or ("nothing is wrong.",)]
    not_checked = dict.fromkeys(sentence for each in checked for sentence in each.not_checked)
    lines += [f"Not checked: {sentence} Give the folder of the images with --study." for sentence in not_checked]
    return "\n".join(lines)
