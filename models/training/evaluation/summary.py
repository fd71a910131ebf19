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

from models.labels import Role
from models.package import ModelPackage
from models.training.dataset.channel_subsets import subset_name
from models.training.dataset.lineage import Overlap
from models.training.evaluation.case_score import CaseScore
from models.training.evaluation.cases import HeadCase, Unmeasured
from models.training.evaluation.lesions import LesionScore, pool
from models.training.evaluation.score import LabelScore
from models.training.evaluation.subgroups import METRICS, Comparison, Grouping, compare
from models.training.statistics.spread import Spread, spread
from models.training.synthetic.tumour import Variant

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
    """How well a label was found in some cases."""

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

    @property
    def found_ml(self) -> tuple[float, float, float]:
        """Median, 95th percentile (interpolated linearly) and maximum of the found volumes of all cases."""
        found = [score.found_ml for score in self.scores]
        return statistics.median(found), float(np.percentile(found, 95)), max(found)

    def _spreads(self, scores: Sequence[LabelScore]) -> dict[str, Spread]:
        found = {metric.name: spread([metric.of(each) for each in scores], self.seed) for metric in METRICS}
        return {name: values for name, values in found.items() if values is not None}


@dataclass(frozen=True)  # no slots, as above
class GroupSummary:
    """Some cases: those of a group, or the heads of one variant in a group."""

    name: str
    cases: tuple[CaseScore, ...]
    seed: int
    """Seed of bootstrap intervals."""

    @cached_property
    def labels(self) -> tuple[LabelSummary, ...]:
        """Summaries of every label over the cases that were compared on it.

        They are in the order of first appearance, cases with most labels first: one that lacks some moves none.
        """
        complete_first = sorted(self.cases, key=lambda case: -len(case.labels))
        scores: dict[str, list[LabelScore]] = {score.label: [] for case in complete_first for score in case.labels}
        for case in self.cases:
            for score in case.labels:
                scores[score.label].append(score)
        return tuple(LabelSummary(label, tuple(found), self.seed) for label, found in scores.items())

    @property
    def variants(self) -> tuple["GroupSummary", ...]:
        """The heads variant by variant; empty for cases that are no heads."""
        heads = [(score.case.variant, score) for score in self.cases if isinstance(score.case, HeadCase)]
        parts = {variant: tuple(score for its, score in heads if its is variant) for variant in Variant}
        return tuple(GroupSummary(variant.value, part, self.seed) for variant, part in parts.items() if part)

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
    reduced: tuple[CaseScore, ...] = ()
    """The cases once more, without some of their channels; they count nowhere but in `subsets`."""
    spacing_mm: float = 1.0
    """Edge of the voxels in which synthetic heads were made."""

    @property
    def patients(self) -> int:
        """How many patients the cases are of."""
        return len({score.case.patient for score in self.cases if score.case.patient is not None})

    @cached_property
    def labels(self) -> tuple[LabelSummary, ...]:
        """Summaries of every label over all cases."""
        return GroupSummary(ALL, self.cases, self.seed).labels

    @cached_property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Tests between every pair of subgroups, by metric and label."""
        return compare(self.cases, self.groupings, self.seed)

    @cached_property
    def groups(self) -> tuple[GroupSummary, ...]:
        """The cases with a lesion group by group, in the order in which they were measured."""
        return self._by_group([score for score in self.cases if not score.case.is_lesion_free])

    @cached_property
    def lesion_free(self) -> tuple[GroupSummary, ...]:
        """The heads without a lesion by group, and all of them together where there are several groups."""
        free = [score for score in self.cases if score.case.is_lesion_free]
        groups = self._by_group(free)
        return (*groups, GroupSummary(ALL, tuple(free), self.seed)) if len(groups) > 1 else groups

    @cached_property
    def subsets(self) -> tuple[GroupSummary, ...]:
        """All cases, the reduced ones too, by the channels that the network was given; those with most come first."""
        found: dict[tuple[Role, ...], list[CaseScore]] = {}
        for score in (*self.cases, *self.reduced):
            found.setdefault(score.absent, []).append(score)
        channels = self.package.channels
        ordered = sorted(found, key=lambda absent: (len(absent), list(map(channels.index, absent))))
        return tuple(GroupSummary(subset_name(each, channels), tuple(found[each]), self.seed) for each in ordered)

    def _by_group(self, cases: Sequence[CaseScore]) -> tuple[GroupSummary, ...]:
        names = dict.fromkeys(score.case.group for score in cases)
        parts = ((name, tuple(score for score in cases if score.case.group == name)) for name in names)
        return tuple(GroupSummary(name, part, self.seed) for name, part in parts)
