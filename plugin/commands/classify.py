"""The commands `glionode classify` and `glionode inspect`: a dry run of the rules, and what lies in a folder."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from pipeline.errors import GlionodeError
from plugin.commands.segment import ConfigOption, find_studies, site_rules
from plugin.commands.terminal import FAILED, complain, print_table, refuse


def classify(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A SeriesDescription a line, or a TSV; - is standard input.")
    ],
    config: ConfigOption = None,
) -> None:
    """Try the rules on a list of series descriptions, before a node is let near a scanner.

    FILE has one SeriesDescription a line, or is a TSV with a column `description`; columns such as ImageType,
    ContrastBolusAgent, EchoTime, InversionTime, RepetitionTime and ScanningSequence add evidence. Blanks at the ends of
    descriptions are kept. The answer is TSV on standard output: description, role, confidence, why.
    """
    from pipeline.classify_table import as_tsv, classify_text

    rules = site_rules(config)
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
        lines = classify_text(text, rules)
    except (OSError, UnicodeDecodeError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
        raise refuse(f"{file} cannot be read: {why}.") from exc
    except GlionodeError as exc:
        raise refuse(f"{file}: {exc}") from exc
    sys.stdout.write(as_tsv(lines))


def inspect(
    source: Annotated[Path, typer.Argument(metavar="IN", help="DICOM file, or folder in any layout.")],
    config: ConfigOption = None,
) -> None:
    """Show what is in a folder, series by series: geometry, role, readable or why not. Reads no pixels."""
    from pipeline.inspection import inspect_study

    rules = site_rules(config)
    try:
        found = find_studies(source)
    except GlionodeError as exc:
        raise refuse(str(exc), FAILED) from exc
    for study in found.studies:
        table = Table(
            "No.", "SeriesDescription", "Images", "Role", "Slices x rows x columns", "Spacing mm", "Plane", "Note"
        )
        table.title, table.title_justify = f"Study {study.study_instance_uid}", "left"
        for row in inspect_study(study, rules):
            geometry = row.geometry
            table.add_row(
                str(row.series.series_number if row.series.series_number is not None else ""),
                repr(row.series.description)[1:-1],
                str(row.image_count),
                str(row.role or ""),
                " x ".join(map(str, geometry.shape)) if geometry else "",
                " x ".join(f"{value:.3g}" for value in geometry.spacing_mm) if geometry else "",
                row.plane,
                row.refusal or "; ".join(row.notes),
            )
        print_table(table)
    for ignored in found.ignored:
        if not ignored.damaged:
            complain(f"{ignored.path}: {ignored.reason}")
