"""Subgroups of cases: read from a CSV or told from the truth, and compared. Knows no masks."""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

from models.training.dataset.manifest import DatasetBroken
from models.training.evaluation.evaluate_dataset import CaseScore
from models.training.evaluation.score import LabelScore
from models.training.statistics.comparison import GroupDifference, compare_groups, holm
from models.training.statistics.spread import Spread, spread

CASE_COLUMN = "case"
FOCALITY = "focality"


@dataclass(frozen=True, slots=True)
class Grouping:
    """One way of parting cases."""

    name: str
    of_case: Mapping[str, str]
    """The group of each case by its id; cases that have none are not compared."""
    source: str
    """Where it comes from, for the report."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One number of a label in a case."""

    name: str
    title: str
    unit: str
    of: Callable[[LabelScore], float]


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
"""Metrics that subgroups are tested on: Dice as Wan et al. did, and distance."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two groups of cases, one metric of one label."""

    metric: str
    label: str
    grouping: str
    groups: tuple[tuple[str, Spread], tuple[str, Spread]]
    """Name and values of each."""
    difference: GroupDifference
    p_holm: float
    """Corrected for all comparisons of this metric: every label, every grouping, every pair of groups."""


def read_groups(path: Path, case_ids: Sequence[str]) -> tuple[Grouping, ...]:
    """Every column of a CSV but `case` as a grouping; an empty cell is no group. Raises DatasetBroken."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise DatasetBroken(f"{path} cannot be read: {exc}. It has to be a CSV in UTF-8.") from exc
    columns = [name for name in reader.fieldnames or () if name and name != CASE_COLUMN]
    if CASE_COLUMN not in (reader.fieldnames or ()) or not columns:
        raise DatasetBroken(
            f"{path} needs a column {CASE_COLUMN!r} with the cases' ids, and one column or more beside."
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
    """Unifocal or multifocal by the number of foci in each case's truth; a case without any is in neither."""
    groups = {case: "unifocal" if count == 1 else "multifocal" for case, count in foci.items() if count}
    return Grouping(FOCALITY, groups, "components of the truth")


def with_focality(said: tuple[Grouping, ...], foci: Mapping[str, int]) -> tuple[Grouping, ...]:
    """What a CSV said, and focality from the truth where no column is called so."""
    return said if any(grouping.name == FOCALITY for grouping in said) else (*said, by_focality(foci))


def groupings_of(cases: Sequence[CaseScore], said: tuple[Grouping, ...]) -> tuple[Grouping, ...]:
    """The same for cases that were scored."""
    return with_focality(said, {case.case_id: case.foci for case in cases})


def compare(cases: Sequence[CaseScore], groupings: Sequence[Grouping], seed: int) -> tuple[Comparison, ...]:
    """Every pair of groups of every grouping, label by label; Holm's correction within each metric."""
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
        group = grouping.of_case.get(case.case_id)
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
