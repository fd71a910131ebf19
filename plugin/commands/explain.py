"""The command `glionode explain`: show how series are classified and chosen, and why. Reads headers only."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Column, Table

from pipeline.errors import GlionodeError
from plugin.commands.options import ConfigOption
from plugin.commands.segment import find_studies, load_site_rules
from plugin.commands.terminal import WRONG_USAGE, complain, print_table, refusing

if TYPE_CHECKING:
    from pipeline.choose import Explained, NotEligible, Selected
    from pipeline.study import Study
    from plugin.sources.served_model import WantedRoles


def explain(
    source: Annotated[Path, typer.Argument(metavar="IN", help="File or folder with DICOM; other files are ignored.")],
    as_json: Annotated[bool, typer.Option("--json", help="For programs: one JSON array of studies.")] = False,
    config: ConfigOption = None,
) -> None:
    """Show which series of each study would be chosen for which role, the evidence, and what ruled out the others.

    Only headers are read. Of a header only the description is shown, as it is in the file. In the folder of an XNAT
    session, scan types count as evidence too. Series that are parts of one acquisition are shown as one.
    """
    from pipeline.choose import choose
    from pipeline.choose import explain as explain_study
    from plugin.xnat.session import find_sessions, with_scan_types

    rules = load_site_rules(config)
    wanted, derive_adc = _settings_of_choosing(config)
    with refusing(GlionodeError):
        found = find_studies(source)
        for session in find_sessions(source):
            found = with_scan_types(found, session)
    documents = [
        _document(study, explain_study(study, rules), choose(study, wanted.roles, rules, derive_adc, wanted.optional))
        for study in found.studies
    ]
    if as_json:
        print(json.dumps(documents, indent=1, ensure_ascii=False))
        return
    for document in documents:
        _print_table(document)


def _settings_of_choosing(config: Path | None) -> "tuple[WantedRoles, bool]":
    """Return the roles that the served model takes, and whether ADC is computed; exit with an error without a model."""
    from plugin.settings.load import load_settings
    from plugin.sources.served_model import served_package, wanted_roles

    with refusing(GlionodeError, status=WRONG_USAGE):
        settings = load_settings(config)
        package = served_package(settings.model.name, settings.installed_models_dir)
        return wanted_roles(package, settings.model.require), settings.choose.derive_adc


def _document(study: "Study", explained: "tuple[Explained, ...]", selected: "Selected | NotEligible") -> dict[str, Any]:
    """Return all that is known of the choice; the table shows nothing else."""
    from pipeline.choose import NotEligible

    document: dict[str, Any] = {"study_instance_uid": study.study_instance_uid, "not_eligible": None, "selected": {}}
    document |= {"absent": [], "why_absent": None}
    if isinstance(selected, NotEligible):
        document["not_eligible"] = selected.reason
    else:
        document["selected"] = {choice.role: choice.series.series_instance_uid for choice in selected.choices}
        document |= {"absent": list(selected.absent), "why_absent": selected.why_absent or None}
    return document | {"series": [_series(each) for each in explained]}


def _series(each: "Explained") -> dict[str, Any]:
    series, found = each.series, each.classification
    return {
        "series_instance_uid": series.series_instance_uid,
        "series_number": series.series_number,
        "series_description": series.description,
        "modality": series.modality,
        "instance_count": len(series.instances),
        "joined": [
            {"series_instance_uid": one.series_instance_uid, "series_number": one.series_number}
            for one in series.joined
        ],
        "role": found.role,
        "confidence": round(found.confidence, 3),
        "taken_for": each.taken_for,
        "evidence": [
            {"rule": item.rule, "source": item.source, "weights": dict(item.weights), "text": item.text}
            for item in found.evidence
        ],
        "marks": [{"mark": mark.name, "source": mark.source, "effect": mark.effect.value} for mark in found.marks],
        "ruled_out": list(each.ruled_out),
        "note": each.note,
    }


def _print_table(document: dict[str, Any]) -> None:
    number, images = Column("No.", justify="right"), Column("Images", justify="right")
    table = Table(
        *(number, "SeriesDescription", images, "Role", "Chosen", "Evidence, and what ruled it out"),
        title=f"Study {document['study_instance_uid']}",
        title_justify="left",
        show_lines=True,
    )
    for each in document["series"]:
        lines = [item["text"] for item in each["evidence"]]
        lines += [f"not chosen: {reason}" for reason in each["ruled_out"]]
        lines += [f"note: {each['note']}"] if each["note"] else []
        table.add_row(
            str(each["series_number"] if each["series_number"] is not None else ""),
            repr(each["series_description"])[1:-1],
            str(each["instance_count"]),
            f"{each['role']} {each['confidence']:.0%}" if each["role"] else "none",
            f"yes, {each['taken_for']}" if each["taken_for"] else "",
            "\n".join(lines),
        )
    print_table(table)
    if document["not_eligible"]:
        complain(f"Study {document['study_instance_uid']}: not eligible. {document['not_eligible']}")
    if document["absent"]:
        print(f"Segmented without {' and '.join(document['absent'])}: {document['why_absent']}.")
