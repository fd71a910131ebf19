"""The commands `glionode classify` and `glionode inspect`: try the rules on descriptions, list a folder's series."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from pipeline.errors import GlionodeError
from plugin.commands.options import ConfigOption
from plugin.commands.segment import find_studies, load_site_rules
from plugin.commands.terminal import complain, print_table, refuse, refusing


def classify(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="One SeriesDescription per line, or a TSV; - is standard input.")
    ],
    config: ConfigOption = None,
) -> None:
    """Try the rules on a list of series descriptions, for example before a node is connected to a scanner.

    FILE has one SeriesDescription per line, or is a TSV with a column `description`; columns such as ImageType,
    ContrastBolusAgent, EchoTime, InversionTime, RepetitionTime and ScanningSequence add evidence. Spaces at the ends of
    descriptions are kept. The output is TSV: description, role, confidence, why.
    """
    from pipeline.classify_table import as_tsv, classify_text

    rules = load_site_rules(config)
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
        lines = classify_text(text, rules)
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
        raise refuse(f"{file} cannot be read: {reason}.") from exc
    except GlionodeError as exc:
        raise refuse(f"{file}: {exc}") from exc
    sys.stdout.write(as_tsv(lines))


def inspect(
    source: Annotated[Path, typer.Argument(metavar="IN", help="DICOM file, or folder in any layout.")],
    config: ConfigOption = None,
) -> None:
    """Show each series in a folder: geometry, role, and whether it can be read or why not. Reads no pixels."""
    from pipeline.inspection import inspect_study

    rules = load_site_rules(config)
    with refusing(GlionodeError):
        found = find_studies(source)
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
