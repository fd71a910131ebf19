"""The score is that of figure 2 of Wan et al. 2024, leaf by leaf."""

from itertools import product

import pytest

from models.training.reader_study.likert_scale import AnswerWrong, Judgement, Missing

SEQUENCES = ("T1CE", "FLAIR", "ADC")
LEAVES = {
    (True, Missing.NONE): 5,  # complete consistency across all sequences
    (True, Missing.UNDER_QUARTER): 4,
    (True, Missing.OVER_QUARTER): 3,
    (False, Missing.UNDER_QUARTER): 3,
    (False, Missing.QUARTER_TO_HALF): 2,
    (False, Missing.OVER_HALF): 1,
}


def judged(consistent: bool, *missing: Missing, includes_normal: bool = False) -> int:
    return Judgement(consistent, tuple(zip(SEQUENCES, missing, strict=True)), includes_normal).score


@pytest.mark.parametrize(("consistent", "missing"), LEAVES)
def test_each_leaf(consistent: bool, missing: Missing) -> None:
    expected = LEAVES[consistent, missing]
    assert judged(consistent, missing, missing, missing) == expected
    assert judged(consistent, missing, missing, missing, includes_normal=True) == max(1, expected - 1)


def test_the_sequence_that_misses_most_decides() -> None:
    for answers in product((Missing.NONE, Missing.UNDER_QUARTER, Missing.OVER_QUARTER), repeat=3):
        assert judged(True, *answers) == min(LEAVES[True, answer] for answer in answers)


def test_answers_of_the_other_branch_are_refused() -> None:
    with pytest.raises(AnswerWrong, match="the answer for FLAIR does not belong to a segmentation that is consist"):
        judged(True, Missing.NONE, Missing.OVER_HALF, Missing.NONE)
    with pytest.raises(AnswerWrong, match="not consistent"):
        judged(False, Missing.NONE, Missing.NONE, Missing.NONE)
    with pytest.raises(AnswerWrong, match="no sequence"):
        _ = Judgement(True, (), False).score
