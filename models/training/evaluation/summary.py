"""What the scores of many cases come to, label by label. Knows no files."""

from collections.abc import Sequence
from dataclasses import dataclass

from models.training.evaluation.evaluate_dataset import CaseScore, Measured
from models.training.evaluation.groups import METRICS, Comparison, Grouping, compare
from models.training.evaluation.lesions import LesionScore, pool
from models.training.statistics.spread import Spread, spread


@dataclass(frozen=True, slots=True)
class Agreement:
    """Bland and Altman 1986, Lancet 1:307: how far found volumes lie from true ones."""

    bias_ml: float
    """Mean of found - true."""
    limits_ml: tuple[float, float]
    """Bias -+ 1.96 standard deviations: where 95 % of the differences lie, were they normal."""


@dataclass(frozen=True, slots=True)
class LabelSummary:
    """One label over all cases that were measured on it."""

    label: str
    cases: int
    present: int
    """Cases whose truth holds the label."""
    metrics: tuple[tuple[str, Spread], ...]
    """By the name of the metric, over all cases; empty ones count as the conventions say."""
    metrics_where_present: tuple[tuple[str, Spread], ...]
    """Over the cases whose truth holds the label; nothing without such."""
    lesions: LesionScore
    """Of all cases, added up."""
    false_ml: Spread | None
    """Volume found in cases whose truth is empty, all of it false; None without such."""
    volume: Agreement | None
    """None for fewer than two cases."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All numbers of an evaluation."""

    measured: Measured
    labels: tuple[LabelSummary, ...]
    groupings: tuple[Grouping, ...]
    comparisons: tuple[Comparison, ...]
    seed: int


def evaluate(measured: Measured, groupings: tuple[Grouping, ...], seed: int) -> Evaluation:
    """Sum up; the seed is that of the bootstrap."""
    labels = dict.fromkeys(score.label for case in measured.cases for score in case.labels)
    return Evaluation(
        measured=measured,
        labels=tuple(summarise(measured.cases, label, seed) for label in labels),
        groupings=groupings,
        comparisons=compare(measured.cases, groupings, seed),
        seed=seed,
    )


def summarise(cases: Sequence[CaseScore], label: str, seed: int) -> LabelSummary:
    """One label over the cases that have a score of it."""
    scores = [score for case in cases for score in case.labels if score.label == label]
    there = [score for score in scores if score.is_there]
    volume = spread([score.difference_ml for score in scores], seed)
    return LabelSummary(
        label=label,
        cases=len(scores),
        present=len(there),
        metrics=tuple(
            (metric.name, found) for metric in METRICS if (found := spread([metric.of(each) for each in scores], seed))
        ),
        metrics_where_present=tuple(
            (metric.name, found) for metric in METRICS if (found := spread([metric.of(each) for each in there], seed))
        ),
        lesions=pool(score.lesions for score in scores),
        false_ml=spread([score.found_ml for score in scores if not score.is_there], seed),
        volume=None if volume is None or volume.standard_deviation is None else agreement(volume),
    )


def agreement(volume: Spread) -> Agreement:
    """Bias and limits of a spread of differences."""
    reach = 1.96 * (volume.standard_deviation or 0.0)
    return Agreement(volume.mean, (volume.mean - reach, volume.mean + reach))
