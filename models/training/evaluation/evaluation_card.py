"""Write an evaluation on heads and studies into a model package: MODEL_CARD.md with its pictures, and metrics.json."""

import tomllib
from collections.abc import Sequence

from models.labels import PAPER_LABELS
from models.package import CARD_FILE, CURVES_FILE, IntendedUse
from models.training.evaluation.card_tables import card_tables, group_name
from models.training.evaluation.cases import REAL, HeadCase
from models.training.evaluation.figures import Figure, Rank
from models.training.evaluation.result_files import metrics_json
from models.training.evaluation.summary import Evaluation
from models.training.report.html import format_number, render
from models.training.synthetic.families import LEARNED_FROM, Family, group_of
from pipeline.atomic_write import write_file

METRICS_FILE = "metrics.json"
_WARNING = {
    IntendedUse.DEMONSTRATION: "a demonstration, not for patients",
    IntendedUse.RESEARCH: "for research, not for patients",
    IntendedUse.CLINICAL: "measured here on simulated tumours only",
}


def write_card(evaluation: Evaluation, figures: Sequence[Figure], command: str) -> None:
    """Write pictures, metrics and card, in this order, into the package's folder; remove older pictures.

    Raises OSError where the folder cannot be written.
    """
    folder = evaluation.package.folder
    contents = {figure.file_name: figure.overlay.png for figure in figures}
    contents[METRICS_FILE] = metrics_json(evaluation, figures, command).encode()
    contents[CARD_FILE] = evaluation_card(evaluation, figures, command).encode()
    for name, content in contents.items():
        write_file(folder / name, content)
    for group in (*map(group_of, Family), REAL):
        for rank in Rank:
            if (name := f"{group}-{rank}.png") not in contents:
                (folder / name).unlink(missing_ok=True)


def evaluation_card(evaluation: Evaluation, figures: Sequence[Figure], command: str) -> str:
    """Return the card as Markdown, made of model.toml and the evaluation alone."""
    package = evaluation.package
    measured = {label.label for label in evaluation.labels}
    heads = {family: [each for each in _heads(evaluation) if each.family is family] for family in Family}
    return render(
        "evaluation/card.md.jinja",
        package=package,
        warning=_WARNING[package.intended_use],
        command=command,
        provenance=tomllib.loads((package.folder / "model.toml").read_text(encoding="utf-8")).get("provenance", {}),
        curves=CURVES_FILE if (package.folder / CURVES_FILE).is_file() else "",
        families=[
            {
                "name": family,
                "is_learned": family in LEARNED_FROM,
                "with_lesion": [head.seed for head in found if not head.is_lesion_free],
                "lesion_free": [head.seed for head in found if head.is_lesion_free],
            }
            for family, found in heads.items()
            if found
        ],
        seeds=lambda seeds: f"seeds {min(seeds)} to {max(seeds)}" if seeds else "none",
        studies=sum(each.case.group == REAL for each in evaluation.cases),
        spacing_mm=evaluation.spacing_mm,
        panels=", ".join(f"{label.name} on {label.defined_on}" for label in PAPER_LABELS if label.name in measured),
        tables=card_tables(evaluation),
        unmeasured=evaluation.unmeasured,
        figures=figures,
        group_name=group_name,
        format_number=format_number,
    )


def _heads(evaluation: Evaluation) -> list[HeadCase]:
    return [each.case for each in evaluation.cases if isinstance(each.case, HeadCase)]
