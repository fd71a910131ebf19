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
    ranked = sorted(
        (score for score in cases if not score.case.is_lesion_free and score.mean_dice_where_present is not None),
        key=lambda score: (score.mean_dice_where_present, score.case.case_id),
    )
    chosen: list[Choice] = []
    for group in dict.fromkeys(score.case.group for score in cases):
        own = [score for score in ranked if score.case.group == group]
        last = len(own) - 1
        # Where two ranks fall on one case, the later one counts.
        rank_at = {last // 2: Rank.MEDIAN, 0: Rank.WORST, last: Rank.BEST} if own else {}
        chosen += [(rank, own[place]) for rank in Rank for place, its_rank in rank_at.items() if its_rank is rank]
    return tuple(chosen)


def worst_cases(cases: Sequence[CaseScore], most: int) -> tuple[Choice, ...]:
    """Choose the cases of the lowest mean Dice, the worst first; of equals those of the first ids."""
    ranked = sorted(cases, key=lambda score: (score.mean_dice, score.case.case_id))
    return tuple((None, score) for score in ranked[:most])
