"""Compute scores on the five-point scale of Wan et al. 2024 ("Semi-quantitative Evaluation", figure 2)."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

SCORES = (1, 2, 3, 4, 5)
NAMES = {5: "Excellent", 4: "Very good", 3: "Good", 2: "Fair", 1: "Poor"}
"""The paper's names of the scores."""
ACCEPTABLE = 3
"""The paper reports the share of cases with this score or more."""


class Missing(StrEnum):
    """How much of the tumour's volume is missing in a sequence, by visual estimate."""

    NONE = "none"
    UNDER_QUARTER = "under_quarter"
    OVER_QUARTER = "over_quarter"
    QUARTER_TO_HALF = "quarter_to_half"
    OVER_HALF = "over_half"


BRANCHES: Mapping[bool, Mapping[Missing, int]] = {
    True: {Missing.NONE: 5, Missing.UNDER_QUARTER: 4, Missing.OVER_QUARTER: 3},
    False: {Missing.UNDER_QUARTER: 3, Missing.QUARTER_TO_HALF: 2, Missing.OVER_HALF: 1},
}
"""Score by the two steps: whether the mask is generally consistent with the lesion's morphology, then how much the
sequence that misses most misses."""
PENALTY = 1
"""Subtracted for normal anatomy or artefacts in the mask. No score falls below 1, which the paper does not state."""


class AnswerWrong(ValueError):
    """An answer is incomplete, or does not belong to its branch."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The answers of a reader on one mask."""

    consistent: bool
    """First step: generally consistent with the lesion's morphology across all sequences."""
    missing: tuple[tuple[str, Missing], ...]
    """Second step, for each sequence."""
    includes_normal: bool
    """Third step: whether the mask erroneously includes normal anatomy or artefacts."""

    @property
    def score(self) -> int:
        """The score, 1 to 5. Raises AnswerWrong."""
        branch = BRANCHES[self.consistent]
        if not self.missing:
            raise AnswerWrong("no sequence was judged")
        if wrong := [name for name, missing in self.missing if missing not in branch]:
            first_step = "consistent" if self.consistent else "not consistent"
            raise AnswerWrong(f"the answer for {wrong[0]} does not belong to a segmentation that is {first_step}")
        worst = min(branch[missing] for _, missing in self.missing)
        return max(SCORES[0], worst - PENALTY * self.includes_normal)
