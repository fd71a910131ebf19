"""Summaries of cases follow the stated conventions; numbers are worked out by hand."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from models.labels import PAPER_LABELS
from models.package import ModelPackage
from models.training.evaluation.case_score import CaseScore
from models.training.evaluation.cases import REAL, HeadCase, StudyCase
from models.training.evaluation.figures import Rank, representatives
from models.training.evaluation.lesions import LesionScore
from models.training.evaluation.summary import ALL, Evaluation, GroupSummary
from models.training.synthetic.families import Family
from models.training.synthetic.tumour import Variant

LABEL = PAPER_LABELS[0].name
Heads = Callable[..., HeadCase]
Scores = Callable[..., CaseScore]


def test_heads_without_the_label_stay_out_of_its_dice_and_count_in_its_lesions(head: Heads, scored: Scores) -> None:
    cases = [
        scored(head(0), 0.9),
        scored(head(1), 0.3),
        scored(head(2, Variant.SMALL), 0.0),
        scored(head(3, Variant.NON_ENHANCING), None),
    ]
    summary = GroupSummary("learned", tuple(cases), seed=1).labels[0]
    assert summary.label == LABEL
    assert (len(summary.present), summary.median_dice, summary.lowest_dice) == (3, pytest.approx(0.3), 0)
    assert summary.mean_dice == pytest.approx(0.4)
    assert summary.median_hd95_mm == 4
    assert summary.lesions == LesionScore(6, 3, 4, 3)
    nothing = GroupSummary("learned", tuple(cases[3:]), seed=1).labels[0]
    assert (nothing.present, nothing.mean_dice, nothing.median_dice, nothing.median_hd95_mm) == ((), None, None, None)


def test_a_case_that_lacks_labels_does_not_change_their_order(head: Heads, scored: Scores) -> None:
    lacking, whole = scored(head(0), 0.5), scored(head(1), 0.9)
    group = GroupSummary("some", (replace(lacking, labels=lacking.labels[1:]), whole), 1)
    assert [label.label for label in group.labels] == [score.label for score in whole.labels]
    assert [[score.dice for score in label.scores] for label in group.labels] == [[0.9], [0.5, 0.9], [0.5, 0.9]]


def test_false_positives_are_a_median_and_a_percentile(head: Heads, scored: Scores) -> None:
    volumes = [0.0] * 18 + [1.0, 3.0]
    cases = [scored(head(number, Variant.LESION_FREE), None, found_ml=volume) for number, volume in enumerate(volumes)]
    first = GroupSummary("learned", tuple(cases), seed=1).labels[0]
    # The 95th percentile of 20 values lies at 0.95 x 19 = 18.05 from the smallest, between 1 and 3.
    assert first.found_ml == (0, pytest.approx(1 + 0.05 * 2), 3)
    assert first.lesions.found == 2


def test_groups_and_variants_are_kept_apart(
    head: Heads, scored: Scores, make_package: Callable[..., ModelPackage], tmp_path: Path
) -> None:
    cases = (
        scored(head(0), 0.8),
        scored(head(1, Variant.SMALL), 0.4),
        scored(head(0, family=Family.GROWN), 0.6, 0.5, None),
        scored(head(500_000, Variant.LESION_FREE), None, found_ml=2.0),
        scored(head(500_000, Variant.LESION_FREE, Family.GROWN), None, found_ml=0.0),
        scored(StudyCase(tmp_path), 0.7),
    )
    evaluation = Evaluation(make_package(), cases, ())
    groups = {group.name: group for group in evaluation.groups}
    assert list(groups) == ["learned", "grown", REAL]
    assert [len(groups[name].cases) for name in groups] == [2, 1, 1]
    assert groups["learned"].mean_dice == pytest.approx(0.6)
    assert groups["grown"].mean_dice == pytest.approx(0.55)  # of the two labels that are there
    assert [(each.name, each.labels[0].median_dice) for each in groups["learned"].variants] == [
        ("unifocal", 0.8),
        ("small", 0.4),
    ]
    assert groups[REAL].variants == ()
    assert [(free.name, len(free.cases), free.labels[1].found_ml[0]) for free in evaluation.lesion_free] == [
        ("learned", 1, 2),
        ("grown", 1, 0),
        (ALL, 2, 1),
    ]


@pytest.mark.parametrize(
    ("dice", "expected"),
    [
        ([0.2, 0.9, 0.5, 0.7, 0.4], {Rank.BEST: 1, Rank.MEDIAN: 2, Rank.WORST: 0}),
        ([0.2, 0.9, 0.5, 0.7], {Rank.BEST: 1, Rank.MEDIAN: 2, Rank.WORST: 0}),
        ([0.5, 0.5, 0.5], {Rank.BEST: 2, Rank.MEDIAN: 1, Rank.WORST: 0}),
        ([0.6, 0.3], {Rank.BEST: 0, Rank.WORST: 1}),
        ([0.6], {Rank.BEST: 0}),
        ([None], {}),
    ],
)
def test_best_median_and_worst_are_three_cases_where_there_are_three(
    dice: list[float | None], expected: dict[Rank, int], head: Heads, scored: Scores
) -> None:
    cases = [scored(head(number), value) for number, value in enumerate(dice)]
    chosen = {rank: cases.index(case) for rank, case in representatives(cases)}
    assert chosen == expected
    assert list(chosen) == [rank for rank in Rank if rank in expected]
