"""The tables of an evaluation on heads and studies, for the model card and for the terminal."""

from models.labels import find_label
from models.training.evaluation.cases import REAL, StudyCase
from models.training.evaluation.lesions import LesionScore
from models.training.evaluation.subset_table import subset_table
from models.training.evaluation.summary import Evaluation, LabelSummary
from models.training.report.html import Table, format_number
from models.training.synthetic.families import LEARNED, Family

_GROUP_NAMES = {
    LEARNED: "of the families learned from",
    Family.GROWN.value: "of a family held out",
    REAL: "real heads, simulated tumours",
}


def card_tables(evaluation: Evaluation) -> tuple[Table, ...]:
    """Return the tables that have rows."""
    tables = (
        _by_label(evaluation),
        _by_variant(evaluation),
        _lesion_free(evaluation),
        _studies(evaluation),
        subset_table(evaluation),
    )
    return tuple(table for table in tables if table is not None and table.rows)


def group_name(group: str) -> str:
    """Return what a person calls a group of cases."""
    return _GROUP_NAMES.get(group, group)


def _by_label(evaluation: Evaluation) -> Table:
    numbers = ("number", "median Dice", "mean", "lowest", "median HD95, mm", "lesions detected", "confirmed")
    rows = [
        (
            *(group_name(group.name), label.label, str(len(label.present)), *_dice(label)),
            *(format_number(label.median_hd95_mm), *_lesions(label.lesions)),
        )
        for group in evaluation.groups
        for label in group.labels
    ]
    return Table(("heads", "label", *numbers), rows, "By label")


def _by_variant(evaluation: Evaluation) -> Table:
    rows = [
        (group_name(group.name), variant.name, str(len(variant.cases)), *map(_dice_in_one_cell, variant.labels))
        for group in evaluation.groups
        for variant in group.variants
    ]
    head = ("heads", "variant", "number", *(label.label for label in evaluation.labels))
    return Table(head, rows, "By variant: median Dice (mean; lowest)")


def _lesion_free(evaluation: Evaluation) -> Table:
    rows = [
        (
            *(group_name(free.name), label.label, str(len(free.cases))),
            *(*map(format_number, label.found_ml), str(label.lesions.found)),
        )
        for free in evaluation.lesion_free
        for label in free.labels
    ]
    head = ("heads", "label", "number", "median", "95th percentile", "highest", "lesions found")
    return Table(head, rows, "Heads without a lesion: what was found in them, ml")


def _studies(evaluation: Evaluation) -> Table:
    rows = [
        (
            *(measured.case.name, score.label, _scored_on(score.label)),
            *(format_number(value if score.is_present else None) for value in (score.dice, score.hd95_mm)),
            *(format_number(score.true_ml), format_number(score.found_ml), *_lesions(score.lesions)),
        )
        for measured in evaluation.cases
        if isinstance(measured.case, StudyCase)
        for score in measured.labels
    ]
    numbers = ("Dice", "HD95, mm", "true ml", "found ml", "lesions detected", "confirmed")
    return Table(("study", "label", "scored on", *numbers), rows, "Study by study")


def _scored_on(label: str) -> str:
    known = find_label(label)
    assert known is not None, label
    return known.defined_on.value


def _dice(label: LabelSummary) -> tuple[str, str, str]:
    return format_number(label.median_dice), format_number(label.mean_dice), format_number(label.lowest_dice)


def _dice_in_one_cell(label: LabelSummary) -> str:
    return "{} ({}; {})".format(*_dice(label)) if label.present else "-"


def _lesions(lesions: LesionScore) -> tuple[str, str]:
    return f"{lesions.detected} of {lesions.true}", f"{lesions.confirmed} of {lesions.found}"
