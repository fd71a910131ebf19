"""Read subgroups of cases from a CSV or derive them from the truth, and compare them."""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

from models.training.dataset.manifest import DatasetBroken
from models.training.evaluation.case_score import CaseScore
from models.training.evaluation.score import LabelScore
from models.training.statistics.comparison import GroupDifference, compare_groups, holm
from models.training.statistics.spread import Spread, spread

CASE_COLUMN = "case"
FOCALITY = "focality"


@dataclass(frozen=True, slots=True)
class Grouping:
    """One way to divide cases into groups."""

    name: str
    groups: Mapping[str, str]
    """The group of each case by the case's id; cases without a group are not compared."""
    source: str
    """Where the groups come from, for the report."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A number that is computed for each label of a case."""

    name: str
    title: str
    unit: str
    of: Callable[[LabelScore], float]

    @property
    def title_and_unit(self) -> str:
        """Such as "HD95 (mm)"."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


METRICS = (
    Metric("dice", "Dice", "", lambda score: score.dice),
    Metric("hd95_mm", "HD95", "mm", lambda score: score.hd95_mm),
    Metric("difference_ml", "Volume, found - true", "ml", lambda score: score.difference_ml),
    Metric("difference_percent", "Volume, found - true", "% of their mean", lambda score: score.difference_percent),
    Metric("lesion_sensitivity", "Lesion sensitivity", "", lambda score: score.lesions.sensitivity),
    Metric("lesion_precision", "Lesion precision", "", lambda score: score.lesions.precision),
    Metric("lesion_f1", "Lesion F1", "", lambda score: score.lesions.f1),
)
COMPARED = METRICS[:2]
"""Metrics on which subgroups are tested: Dice, as Wan et al. did, and distance."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two groups of cases compared by one metric of one label."""

    metric: str
    label: str
    grouping: str
    groups: tuple[tuple[str, Spread], tuple[str, Spread]]
    """The name of each group, and the summary of its values."""
    difference: GroupDifference
    p_holm: float
    """Corrected for all comparisons of this metric: every label, every grouping, every pair of groups."""


def read_groups(path: Path, case_ids: Sequence[str]) -> tuple[Grouping, ...]:
    """Read every column of a CSV but `case` as a grouping; an empty cell is no group. Raises DatasetBroken."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise DatasetBroken(f"{path} cannot be read: {exc}. It has to be a CSV in UTF-8.") from exc
    columns = [name for name in reader.fieldnames or () if name and name != CASE_COLUMN]
    if CASE_COLUMN not in (reader.fieldnames or ()) or not columns:
        raise DatasetBroken(
            f"{path} needs a column {CASE_COLUMN!r} with the cases' ids, and one column or more beside it."
        )
    named = [str(row[CASE_COLUMN]).strip() for row in rows]
    if repeated := {case for case in named if named.count(case) > 1}:
        raise DatasetBroken(f"{path} names case {min(repeated)} more than once.")
    if not set(named) & set(case_ids):
        raise DatasetBroken(f"{path} names none of the cases that are compared; their ids are folders of the data set.")
    return tuple(
        Grouping(
            name,
            {case: group for case, row in zip(named, rows, strict=True) if (group := (row[name] or "").strip())},
            path.name,
        )
        for name in columns
    )


def by_focality(foci: Mapping[str, int]) -> Grouping:
    """Group cases into unifocal and multifocal by the foci in their truth; a case without any is in neither group."""
    groups = {case: "unifocal" if count == 1 else "multifocal" for case, count in foci.items() if count}
    return Grouping(FOCALITY, groups, "components of the truth")


def with_focality(groupings: tuple[Grouping, ...], foci: Mapping[str, int]) -> tuple[Grouping, ...]:
    """Add focality by the number of foci of each case, unless a grouping is called so already."""
    if any(grouping.name == FOCALITY for grouping in groupings):
        return groupings
    return (*groupings, by_focality(foci))


def by_case_group(cases: Sequence[CaseScore]) -> Grouping:
    """Group cases with a lesion by their own group: learned families, held-out families, real heads."""
    groups = {score.case.case_id: score.case.group for score in cases if not score.case.is_lesion_free}
    return Grouping("group", groups, "families of heads")


def compare(cases: Sequence[CaseScore], groupings: Sequence[Grouping], seed: int) -> tuple[Comparison, ...]:
    """Compare every pair of groups of every grouping, label by label; correct by Holm within each metric.

    The seed is that of bootstrap intervals.
    """
    found: list[Comparison] = []
    for metric in COMPARED:
        family = [
            comparison
            for label in dict.fromkeys(score.label for case in cases for score in case.labels)
            for grouping in groupings
            for comparison in _pairs(cases, metric, label, grouping, seed)
        ]
        corrected = holm([each.difference.p for each in family])
        found += [replace(each, p_holm=p) for each, p in zip(family, corrected, strict=True)]
    return tuple(found)


def _pairs(cases: Sequence[CaseScore], metric: Metric, label: str, grouping: Grouping, seed: int) -> list[Comparison]:
    values: dict[str, list[float]] = {}
    for case in cases:
        group = grouping.groups.get(case.case.case_id)
        for score in case.labels:
            if group is not None and score.label == label:
                values.setdefault(group, []).append(metric.of(score))
    found = []
    for one, other in combinations(sorted(values), 2):
        difference = compare_groups(values[one], values[other])
        spreads = spread(values[one], seed), spread(values[other], seed)
        assert difference is not None
        assert spreads[0] is not None
        assert spreads[1] is not None
        groups = ((one, spreads[0]), (other, spreads[1]))
        found.append(Comparison(metric.name, label, grouping.name, groups, difference, difference.p))
    return found
