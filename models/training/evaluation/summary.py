"""Summarise measured cases label by label, group by group and subgroup by subgroup.

Conventions. A label is summarised over all cases, where empty masks count as `score` says, and over the cases whose
truth holds it. Lesions are added up over all cases. In heads without a lesion all that was found is false.
docs/evaluate.md has all conventions.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from models.labels import LABELS
from models.package import ModelPackage
from models.training.dataset.lineage import Overlap
from models.training.evaluation.case_score import CaseScore
from models.training.evaluation.cases import HeadCase, Unmeasured
from models.training.evaluation.lesions import LesionScore, pool
from models.training.evaluation.score import LabelScore
from models.training.evaluation.subgroups import METRICS, Comparison, Grouping, compare
from models.training.statistics.spread import Spread, spread
from models.training.synthetic.tumour import Variant

HIGH_PERCENTILE = 95.0
ALL = "all"


@dataclass(frozen=True, slots=True)
class VolumeAgreement:
    """Bland and Altman 1986, Lancet 1:307: how far found volumes lie from true ones."""

    bias_ml: float
    """Mean of found - true."""
    limits_ml: tuple[float, float]
    """Bias -+ 1.96 standard deviations: the limits of 95 % of the differences, if these were normal."""


@dataclass(frozen=True)  # no slots: a bootstrap is computed once, and only where it is asked for
class LabelSummary:
    """One label over some cases."""

    label: str
    scores: tuple[LabelScore, ...]
    """Of the cases that were compared on the label."""
    seed: int
    """Seed of bootstrap intervals."""

    @cached_property
    def present(self) -> tuple[LabelScore, ...]:
        """Scores of the cases whose truth holds the label."""
        return tuple(score for score in self.scores if score.is_present)

    @cached_property
    def metrics(self) -> Mapping[str, Spread]:
        """Every metric by its name, over all cases; empty for no case."""
        return self._spreads(self.scores)

    @cached_property
    def metrics_where_present(self) -> Mapping[str, Spread]:
        """Every metric by its name, over the cases whose truth holds the label; empty for no such case."""
        return self._spreads(self.present)

    @cached_property
    def false_ml(self) -> Spread | None:
        """Volume found in the cases whose truth is empty, all of it false; None for no such case."""
        return spread([score.found_ml for score in self.scores if not score.is_present], self.seed)

    @cached_property
    def volume(self) -> VolumeAgreement | None:
        """Agreement of the volumes of all cases; None for fewer than two."""
        differences = spread([score.difference_ml for score in self.scores], self.seed)
        if differences is None or differences.standard_deviation is None:
            return None
        reach = 1.96 * differences.standard_deviation
        return VolumeAgreement(differences.mean, (differences.mean - reach, differences.mean + reach))

    @property
    def lesions(self) -> LesionScore:
        """Lesions of all cases, added up."""
        return pool(score.lesions for score in self.scores)

    @property
    def median_dice(self) -> float | None:
        """Median over the cases whose truth holds the label; None for no such case."""
        return statistics.median(score.dice for score in self.present) if self.present else None

    @property
    def mean_dice(self) -> float | None:
        """Mean over the cases whose truth holds the label; None for no such case."""
        return statistics.fmean(score.dice for score in self.present) if self.present else None

    @property
    def lowest_dice(self) -> float | None:
        """Lowest Dice of the cases whose truth holds the label; None for no such case."""
        return min((score.dice for score in self.present), default=None)

    @property
    def median_hd95_mm(self) -> float | None:
        """Median over the cases whose truth holds the label; None for no such case."""
        return statistics.median(score.hd95_mm for score in self.present) if self.present else None

    def _spreads(self, scores: Sequence[LabelScore]) -> dict[str, Spread]:
        found = {metric.name: spread([metric.of(each) for each in scores], self.seed) for metric in METRICS}
        return {name: values for name, values in found.items() if values is not None}


@dataclass(frozen=True, slots=True)
class FalsePositives:
    """What was found of one label in heads without a lesion."""

    label: str
    median_ml: float
    high_ml: float
    """The 95th percentile, interpolated linearly."""
    highest_ml: float
    lesions: int
    """Found in all heads together."""


@dataclass(frozen=True, slots=True)
class LesionFreeSummary:
    """The heads without a lesion of one group, or of all."""

    group: str
    heads: int
    labels: tuple[FalsePositives, ...]


@dataclass(frozen=True, slots=True)
class VariantSummary:
    """The heads of one variant in a group."""

    variant: str
    cases: int
    labels: tuple[LabelSummary, ...]


@dataclass(frozen=True, slots=True)
class GroupSummary:
    """The cases with a lesion of a group."""

    group: str
    cases: tuple[CaseScore, ...]
    labels: tuple[LabelSummary, ...]
    variants: tuple[VariantSummary, ...]
    """Empty for studies."""

    @property
    def mean_dice(self) -> float | None:
        """Mean over the labels of their mean Dice; None where no case holds any."""
        means = [label.mean_dice for label in self.labels if label.mean_dice is not None]
        return statistics.fmean(means) if means else None


@dataclass(frozen=True, slots=True)
class EvaluatedDataset:
    """The data set that the cases are from."""

    fingerprint: str
    split: str | None
    """None for all of its cases."""
    overlap: Overlap
    """How many of the patients the package has learned from."""


@dataclass(frozen=True)  # no slots, as above
class Evaluation:
    """A package, measured case by case."""

    package: ModelPackage
    cases: tuple[CaseScore, ...]
    unmeasured: tuple[Unmeasured, ...]
    groupings: tuple[Grouping, ...] = ()
    seed: int = 1
    """Seed of bootstrap intervals."""
    dataset: EvaluatedDataset | None = None
    """None for synthetic heads and studies."""
    spacing_mm: float = 1.0
    """Edge of the voxels in which synthetic heads were made."""

    @property
    def patients(self) -> int:
        """How many patients the cases are of."""
        return len({score.case.patient for score in self.cases if score.case.patient is not None})

    @cached_property
    def labels(self) -> tuple[LabelSummary, ...]:
        """Every label over all cases."""
        return summarise_labels(self.cases, self.seed)

    @cached_property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Tests between every pair of subgroups, by metric and label."""
        return compare(self.cases, self.groupings, self.seed)

    @cached_property
    def groups(self) -> tuple[GroupSummary, ...]:
        """The cases with a lesion group by group, in the order in which they were measured."""
        with_lesion = [score for score in self.cases if not score.case.is_lesion_free]
        return tuple(
            summarise_group(group, [score for score in with_lesion if score.case.group == group], self.seed)
            for group in dict.fromkeys(score.case.group for score in with_lesion)
        )

    @property
    def lesion_free(self) -> tuple[LesionFreeSummary, ...]:
        """The heads without a lesion by group, and all of them together where there are several groups."""
        free = [score for score in self.cases if score.case.is_lesion_free]
        groups = dict.fromkeys(score.case.group for score in free)
        parts = [(name, [score for score in free if score.case.group == name]) for name in groups]
        return tuple(
            summarise_lesion_free(name, part) for name, part in [*parts, *([(ALL, free)] if len(parts) > 1 else [])]
        )


def summarise_labels(cases: Sequence[CaseScore], seed: int) -> tuple[LabelSummary, ...]:
    """Summarise every label over the cases that were compared on it, in the order of their first appearance."""
    scores: dict[str, list[LabelScore]] = {}
    for case in cases:
        for score in case.labels:
            scores.setdefault(score.label, []).append(score)
    return tuple(LabelSummary(label, tuple(found), seed) for label, found in scores.items())


def summarise_group(group: str, cases: Sequence[CaseScore], seed: int) -> GroupSummary:
    """Summarise cases with a lesion, all together and variant by variant."""
    by_variant: dict[Variant, list[CaseScore]] = {}
    for score in cases:
        if isinstance(score.case, HeadCase):
            by_variant.setdefault(score.case.variant, []).append(score)
    variants = tuple(
        VariantSummary(variant.value, len(by_variant[variant]), summarise_labels(by_variant[variant], seed))
        for variant in Variant
        if variant in by_variant
    )
    return GroupSummary(group, tuple(cases), summarise_labels(cases, seed), variants)


def summarise_lesion_free(group: str, cases: Sequence[CaseScore]) -> LesionFreeSummary:
    """Summarise what was found in heads, at least one, that have no lesion."""
    labels = []
    for label in LABELS:
        scores = [score for case in cases for score in case.labels if score.label == label.name]
        found = [score.found_ml for score in scores]
        labels.append(
            FalsePositives(
                label=label.name,
                median_ml=statistics.median(found),
                high_ml=float(np.percentile(found, HIGH_PERCENTILE)),
                highest_ml=max(found),
                lesions=pool(score.lesions for score in scores).found,
            )
        )
    return LesionFreeSummary(group, len(cases), tuple(labels))
