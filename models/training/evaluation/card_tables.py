"""The tables of an evaluation on heads and studies, for the model card and for the terminal."""

from dataclasses import dataclass

from models.labels import LABELS
from models.training.evaluation.cases import REAL, StudyCase
from models.training.evaluation.lesions import LesionScore
from models.training.evaluation.score import LabelScore
from models.training.evaluation.summary import Evaluation, LabelSummary
from models.training.synthetic.families import LEARNED, Family

_GROUP_NAMES = {
    LEARNED: "of the families learned from",
    Family.GROWN.value: "of a family held out",
    REAL: "real heads, simulated tumours",
}


@dataclass(frozen=True, slots=True)
class CardTable:
    """Rows of text under a title."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def markdown(self) -> str:
        """The table in Markdown, its columns padded so that it can be read as plain text."""
        widths = [max(len(row[column]) for row in (self.header, *self.rows)) for column in range(len(self.header))]
        ruled = (self.header, tuple("-" * width for width in widths), *self.rows)
        return "\n".join(
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
            for row in ruled
        )


def card_tables(evaluation: Evaluation) -> tuple[CardTable, ...]:
    """Return the tables that have rows."""
    tables = (_by_label(evaluation), _by_variant(evaluation), _lesion_free(evaluation), _studies(evaluation))
    return tuple(table for table in tables if table.rows)


def format_number(value: float | None) -> str:
    """Return a number with three decimals; a dash for what does not exist."""
    return "-" if value is None else f"{value:.3f}"


def group_name(group: str) -> str:
    """Return what a person calls a group of cases."""
    return _GROUP_NAMES.get(group, group)


def _by_label(evaluation: Evaluation) -> CardTable:
    return CardTable(
        "By label",
        (
            "heads",
            "label",
            "number",
            "median Dice",
            "mean",
            "lowest",
            "median HD95, mm",
            "lesions detected",
            "confirmed",
        ),
        tuple(
            (
                *(group_name(group.group), label.label, str(len(label.present))),
                *(*_dice(label), format_number(label.median_hd95_mm), *_lesions(label.lesions)),
            )
            for group in evaluation.groups
            for label in group.labels
        ),
    )


def _by_variant(evaluation: Evaluation) -> CardTable:
    return CardTable(
        "By variant: median Dice (mean; lowest)",
        ("heads", "variant", "number", *(label.name for label in LABELS)),
        tuple(
            (
                group_name(group.group),
                variant.variant,
                str(variant.cases),
                *(_in_one_cell(label) for label in variant.labels),
            )
            for group in evaluation.groups
            for variant in group.variants
        ),
    )


def _lesion_free(evaluation: Evaluation) -> CardTable:
    return CardTable(
        "Heads without a lesion: what was found in them, ml",
        ("heads", "label", "number", "median", "95th percentile", "highest", "lesions found"),
        tuple(
            (
                *(group_name(free.group), each.label, str(free.heads)),
                *map(format_number, (each.median_ml, each.high_ml, each.highest_ml)),
                str(each.lesions),
            )
            for free in evaluation.lesion_free
            for each in free.labels
        ),
    )


def _studies(evaluation: Evaluation) -> CardTable:
    return CardTable(
        "Study by study",
        ("study", "label", "scored on", "Dice", "HD95, mm", "true ml", "found ml", "lesions detected", "confirmed"),
        tuple(
            (measured.case.name, score.label, label.defined_on.value, *_numbers(score), *_lesions(score.lesions))
            for measured in evaluation.cases
            if isinstance(measured.case, StudyCase)
            for label, score in zip(LABELS, measured.labels, strict=True)
        ),
    )


def _numbers(score: LabelScore) -> tuple[str, ...]:
    present = score.is_present
    values = (score.dice if present else None, score.hd95_mm if present else None, score.true_ml, score.found_ml)
    return tuple(map(format_number, values))


def _dice(label: LabelSummary) -> tuple[str, ...]:
    return tuple(map(format_number, (label.median_dice, label.mean_dice, label.lowest_dice)))


def _in_one_cell(label: LabelSummary) -> str:
    median, mean, lowest = _dice(label)
    return f"{median} ({mean}; {lowest})" if label.present else "-"


def _lesions(lesions: LesionScore) -> tuple[str, str]:
    return f"{lesions.detected} of {lesions.true}", f"{lesions.confirmed} of {lesions.found}"
