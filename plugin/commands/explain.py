"""The command `glionode explain`: show how series are classified and chosen, and why. Reads headers only."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Column, Table

from pipeline.errors import GlionodeError
from plugin.commands.options import ConfigOption
from plugin.commands.segment import find_studies, load_site_rules
from plugin.commands.terminal import print_table, refusing

if TYPE_CHECKING:
    from pipeline.choose import Explained
    from pipeline.study import Study


def explain(
    source: Annotated[Path, typer.Argument(metavar="IN", help="File or folder with DICOM; other files are ignored.")],
    as_json: Annotated[bool, typer.Option("--json", help="For programs: one JSON array of studies.")] = False,
    config: ConfigOption = None,
) -> None:
    """Show which series of each study would be chosen for which role, the evidence, and what ruled out the others.

    Only headers are read. Of a header only the description is shown, as it is in the file. In the folder of an XNAT
    session, scan types count as evidence too.
    """
    from pipeline.choose import explain as explain_study
    from plugin.xnat.session import find_sessions, with_scan_types

    rules = load_site_rules(config)
    with refusing(GlionodeError):
        found = find_studies(source)
        for session in find_sessions(source):
            found = with_scan_types(found, session)
    explained = [(study, explain_study(study, rules)) for study in found.studies]
    if as_json:
        print(json.dumps([_document(study, series) for study, series in explained], indent=1, ensure_ascii=False))
        return
    for study, series in explained:
        _print_table(study, series)


def _document(study: "Study", explained: "tuple[Explained, ...]") -> dict[str, Any]:
    return {
        "study_instance_uid": study.study_instance_uid,
        "series": [
            {
                "series_instance_uid": each.series.series_instance_uid,
                "series_number": each.series.series_number,
                "series_description": each.series.description,
                "modality": each.series.modality,
                "instance_count": len(each.series.instances),
                "role": each.classification.role,
                "confidence": round(each.classification.confidence, 3),
                "taken_for": each.taken_for,
                "evidence": [
                    {"rule": item.rule, "source": item.source, "weights": dict(item.weights)}
                    for item in each.classification.evidence
                ],
                "marks": [
                    {"mark": mark.name, "source": mark.source, "effect": mark.effect.value}
                    for mark in each.classification.marks
                ],
                "ruled_out": list(each.ruled_out),
            }
            for each in explained
        ],
    }


def _print_table(study: "Study", explained: "tuple[Explained, ...]") -> None:
    number, images = Column("No.", justify="right"), Column("Images", justify="right")
    table = Table(
        *(number, "SeriesDescription", images, "Role", "Chosen", "Evidence, and what ruled it out"),
        title=f"Study {study.study_instance_uid}",
        title_justify="left",
        show_lines=True,
    )
    for each in explained:
        found = each.classification
        role = f"{found.role} {found.confidence:.0%}" if found.role else "none"
        lines = [item.text for item in found.evidence] + [f"not chosen: {reason}" for reason in each.ruled_out]
        table.add_row(
            str(each.series.series_number if each.series.series_number is not None else ""),
            repr(each.series.description)[1:-1],
            str(len(each.series.instances)),
            role,
            f"yes, {each.taken_for}" if each.taken_for else "",
            "\n".join(lines),
        )
    print_table(table)
