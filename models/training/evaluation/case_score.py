"""Hold the scores of a measured case and their means."""

import statistics
from dataclasses import dataclass

from models.labels import Role
from models.training.evaluation.cases import EvaluationCase
from models.training.evaluation.score import LabelScore


@dataclass(frozen=True, slots=True)
class CaseScore:
    """How well the labels of a case were found."""

    case: EvaluationCase
    labels: tuple[LabelScore, ...]
    """The labels that were compared."""
    foci: int
    """Separate foci in the truth, see `count_foci`."""
    absent: tuple[Role, ...] = ()
    """Channels of the model that the case lacks, or that were left out on purpose."""

    @property
    def mean_dice(self) -> float:
        """Mean over the labels that were compared; where truth and result are both empty, Dice is 1."""
        return statistics.fmean(score.dice for score in self.labels)

    @property
    def mean_dice_where_present(self) -> float | None:
        """Mean over the labels that the truth holds; None where it holds none."""
        present = [score.dice for score in self.labels if score.is_present]
        return statistics.fmean(present) if present else None
