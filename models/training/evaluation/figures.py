"""Choose the cases whose pictures stand for the others."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from models.training.evaluation.case_score import CaseScore
from models.training.evaluation.overlays import Overlay


class Rank(StrEnum):
    """Which case stands for a group."""

    BEST = "best"
    MEDIAN = "median"
    WORST = "worst"


@dataclass(frozen=True, slots=True)
class Figure:
    """The picture of a case that stands for others."""

    score: CaseScore
    overlay: Overlay
    rank: Rank | None = None
    """The case's rank in its group; None for the worst cases of a data set."""

    @property
    def file_name(self) -> str:
        """Name of its file in the package's folder."""
        return f"{self.score.case.group}-{self.rank}.png"


Choice = tuple[Rank | None, CaseScore]
"""A case whose picture is shown, and its rank in its group."""


def representatives(cases: Sequence[CaseScore]) -> tuple[Choice, ...]:
    """Choose the best, the median and the worst case of each group, heads without a lesion aside.

    They are ranked by mean Dice over the labels that are present; of an even number the median is the lower one. No
    case comes twice.
    """
    with_lesion = [score for score in cases if not score.case.is_lesion_free]
    groups = dict.fromkeys(score.case.group for score in with_lesion)
    return tuple(
        choice for group in groups for choice in _ranked([score for score in with_lesion if score.case.group == group])
    )


def worst_cases(cases: Sequence[CaseScore], most: int) -> tuple[Choice, ...]:
    """Choose the cases of the lowest mean Dice, the worst first; of equals those of the first ids."""
    ranked = sorted(cases, key=lambda score: (score.mean_dice, score.case.case_id))
    return tuple((None, score) for score in ranked[:most])


def _ranked(cases: Sequence[CaseScore]) -> tuple[Choice, ...]:
    ranked = sorted(
        ((mean, score.case.case_id, score) for score in cases if (mean := score.mean_dice_where_present) is not None),
        key=lambda each: each[:2],
    )
    if not ranked:
        return ()
    chosen: dict[int, Rank] = {}
    for index, rank in ((len(ranked) - 1, Rank.BEST), (0, Rank.WORST), ((len(ranked) - 1) // 2, Rank.MEDIAN)):
        chosen.setdefault(index, rank)
    order = list(Rank)
    return tuple(
        (rank, ranked[index][2]) for index, rank in sorted(chosen.items(), key=lambda each: order.index(each[1]))
    )
