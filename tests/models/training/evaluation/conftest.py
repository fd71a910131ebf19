"""Fixtures that make cases and give them scores without measuring."""

import importlib.util
from collections.abc import Callable, Iterator

import pytest
import torch

from models.labels import PAPER_LABELS
from models.training.evaluation.case_score import CaseScore
from models.training.evaluation.cases import EvaluationCase, HeadCase
from models.training.evaluation.lesions import LesionScore
from models.training.evaluation.score import NOT_FOUND_MM, LabelScore
from models.training.synthetic.families import Family
from models.training.synthetic.tumour import Variant
from tests.support.ball_dataset import high_adc_network
from tests.support.marked_study import finds_marks, marked_study

__all__ = ["finds_marks", "high_adc_network", "marked_study"]

if importlib.util.find_spec("nibabel") is None:
    # It reads truth, and comes with the extra glionode[train].
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Restore the number of threads, which measuring sets for its process, here the one of the tests."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def scored() -> Callable[..., CaseScore]:
    """Make a case whose labels have these values of Dice; None for a label that the truth lacks."""

    def make(case: EvaluationCase, *dice: float | None, found_ml: float = 9.5) -> CaseScore:
        values = dice if len(dice) == len(PAPER_LABELS) else dice * len(PAPER_LABELS)
        scores = []
        for label, value in zip(PAPER_LABELS, values, strict=True):
            present = value is not None
            lesions = LesionScore(2, 1, 1, 1) if present else LesionScore(0, 0, int(found_ml > 0), 0)
            hd95 = 4.0 if value else NOT_FOUND_MM
            scores.append(LabelScore(label.name, value or 0.0, hd95, 10.0 * present, found_ml, lesions))
        return CaseScore(case, tuple(scores), foci=1)

    return make


@pytest.fixture
def head() -> Callable[..., HeadCase]:
    """Make a head, by default of the painted family."""

    def make(number: int, variant: Variant = Variant.UNIFOCAL, family: Family = Family.PAINTED) -> HeadCase:
        return HeadCase(family, 1_000_000 + number, variant)

    return make
