"""The command `glionode check`: our own last look, at objects in files. Judges nothing itself."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.errors import GlionodeError
from plugin.commands.terminal import FAILED, refuse

if TYPE_CHECKING:
    from dicom_seg.check import CheckedObject


def check(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="File or folder with SEG, SR and secondary captures.")],
    study: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="The images that they were made of.", show_default="they lie in PATH too"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: one JSON array of objects.")] = False,
) -> None:
    """CheckedObject at SEG, SR and secondary captures, ours or anybody's, as the node does before it sends its own.

    References must resolve, geometry, patient and study be those of the source images, every SEG frame stand where the
    image stands that it was derived from, voxels be 0 or 1, UIDs be valid and unique, measurements be sane and agree
    with the segments. What cannot be looked up because the images are not at hand is named as not checked.

    Exit status: 0 nothing is wrong, 1 something is, 64 nothing to look at.
    """
    from dicom_seg.check_files import check_files

    try:
        looks = check_files(path, study)
    except GlionodeError as exc:
        raise refuse(str(exc)) from exc
    print(json.dumps([_document(look) for look in looks], indent=1) if as_json else _sentences(looks))
    if any(look.problems for look in looks):
        raise typer.Exit(FAILED)


def _document(look: "CheckedObject") -> dict[str, object]:
    return {
        "path": look.file_name,
        "sop_class_uid": look.sop_class_uid,
        "problems": list(look.problems),
        "not_checked": list(look.not_checked),
    }


def _sentences(looks: "tuple[CheckedObject, ...]") -> str:
    lines = [f"{look.file_name}: {problem}" for look in looks for problem in look.problems or ("nothing is wrong.",)]
    unseen = dict.fromkeys(sentence for look in looks for sentence in look.not_checked)
    lines += [f"Not checked: {sentence} Give the folder that has them with --study." for sentence in unseen]
    return "\n".join(lines)
