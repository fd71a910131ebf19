"""The numbers of an evaluation as tables of text, the same for the model card and for the terminal."""

from collections.abc import Sequence
from dataclasses import dataclass

from models.labels import LABELS
from models.training.evaluation.families import Evaluation, LabelSummary, Scored
from models.training.evaluation.lesions import LesionScore
from models.training.evaluation.score import LabelScore
from models.training.evaluation.synthetic_cases import REAL, Case, Study
from models.training.synthetic.families import LEARNED, Family

_CALLED = {
    LEARNED: "of the families learned from",
    Family.GROWN.value: "of a family held out",
    REAL: "real heads, simulated tumours",
}


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under a heading."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def markdown(self) -> str:
        """Columns of one width, so that it reads without a renderer, too."""
        widths = [max(len(row[column]) for row in (self.header, *self.rows)) for column in range(len(self.header))]
        ruled = (self.header, tuple("-" * width for width in widths), *self.rows)
        return "\n".join(
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
            for row in ruled
        )


def tables(evaluation: Evaluation) -> tuple[Table, ...]:
    """Those that have rows."""
    every = (_by_label(evaluation), _by_variant(evaluation), _lesion_free(evaluation), _studies(evaluation))
    return tuple(table for table in every if table.rows)


def number(value: float | None) -> str:
    """Three decimals; a dash for what does not exist."""
    return "-" if value is None else f"{value:.3f}"


def called(group: str) -> str:
    """What a person calls a group of cases."""
    return _CALLED.get(group, group)


def name_of(case: Case) -> str:
    """What a person calls a case."""
    return case.name if isinstance(case, Study) else f"seed {case.seed}, {case.variant.value}"


def _by_label(evaluation: Evaluation) -> Table:
    return Table(
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
                *(called(group.group), label.label, str(label.cases)),
                *(*_dice(label), number(label.median_hd95_mm), *_lesions(label.lesions)),
            )
            for group in evaluation.groups
            for label in group.labels
        ),
    )


def _by_variant(evaluation: Evaluation) -> Table:
    return Table(
        "By variant: median Dice (mean; lowest)",
        ("heads", "variant", "number", *(label.name for label in LABELS)),
        tuple(
            (
                called(group.group),
                variant.variant,
                str(variant.cases),
                *(_in_one_cell(label) for label in variant.labels),
            )
            for group in evaluation.groups
            for variant in group.variants
        ),
    )


def _lesion_free(evaluation: Evaluation) -> Table:
    return Table(
        "Heads without a lesion: what was found in them, ml",
        ("heads", "label", "number", "median", "95th percentile", "highest", "lesions found"),
        tuple(
            (
                *(called(free.group), each.label, str(free.heads)),
                *(number(each.median_ml), number(each.high_ml), number(each.highest_ml), str(each.lesions)),
            )
            for free in evaluation.lesion_free
            for each in free.labels
        ),
    )


def _studies(evaluation: Evaluation) -> Table:
    return Table(
        "Study by study",
        ("study", "label", "scored on", "Dice", "HD95, mm", "true ml", "found ml", "lesions detected", "confirmed"),
        tuple(
            (name_of(scored.case), score.label, label.defined_on.value, *_one(score), *_lesions(score.lesions))
            for scored in _of_studies(evaluation)
            for label, score in zip(LABELS, scored.labels, strict=True)
        ),
    )


def _of_studies(evaluation: Evaluation) -> Sequence[Scored]:
    return [scored for scored in evaluation.cases if isinstance(scored.case, Study)]


def _one(score: LabelScore) -> tuple[str, ...]:
    there = score.is_there
    values = (score.dice if there else None, score.hd95_mm if there else None, score.true_ml, score.found_ml)
    return tuple(map(number, values))


def _dice(label: LabelSummary) -> tuple[str, ...]:
    return tuple(map(number, (label.median_dice, label.mean_dice, label.lowest_dice)))


def _in_one_cell(label: LabelSummary) -> str:
    median, mean, lowest = _dice(label)
    return f"{median} ({mean}; {lowest})" if label.cases else "-"


def _lesions(lesions: LesionScore) -> tuple[str, str]:
    return f"{lesions.detected} of {lesions.true}", f"{lesions.confirmed} of {lesions.found}"
