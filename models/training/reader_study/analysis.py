"""Analyse the readings of a reader study: means, agreement, and the tests of Wan et al. 2024."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from models.training.evaluation.subgroups import Grouping
from models.training.reader_study.answer_key import Key, MaskSource
from models.training.reader_study.answers import Reading
from models.training.reader_study.likert_scale import ACCEPTABLE, SCORES
from models.training.statistics.agreement import IntraclassCorrelation, intraclass_correlation, weighted_kappa
from models.training.statistics.comparison import (
    ChiSquare,
    GroupDifference,
    chi_square,
    compare_groups,
    compare_pairs,
    holm,
)
from models.training.statistics.spread import Spread, spread

Counts = tuple[tuple[int, ...], ...]
"""Cases by score: a row for each of SCORES, a column for each group or, in a cross table, for each of SCORES."""


@dataclass(frozen=True, slots=True)
class SourceScores:
    """The scores that one reader gave to the masks of one source."""

    source: MaskSource
    scores: Spread
    acceptable: int
    """How many cases scored ACCEPTABLE or more."""


@dataclass(frozen=True, slots=True)
class SubgroupTable:
    """Scores of one source by group, as in table 3 of Wan et al."""

    source: MaskSource
    grouping: str
    groups: tuple[str, ...]
    counts: Counts
    """A column for each group."""
    chi_square: ChiSquare | None
    """The test that they report; it ignores the order of the scores."""
    difference: GroupDifference | None
    """Mann-Whitney U of two groups, which uses the order; None for more groups."""
    p_holm: float | None
    """Chi-square's p, corrected for all tables of this reader."""


@dataclass(frozen=True, slots=True)
class ReaderScores:
    """The results of one reader."""

    reader: str
    sources: tuple[SourceScores, ...]
    cross: Counts
    """Model by row, manual by column, as in table 2 of Wan et al."""
    cross_chi_square: ChiSquare | None
    """Their test of table 2: whether the two scores are associated, not whether they differ."""
    paired_p: float | None
    """P of Wilcoxon's signed-rank test of model against manual, case by case: whether they differ."""
    subgroups: tuple[SubgroupTable, ...]
    repeats: int
    repeat_kappa: float | None
    """Weighted kappa, quadratic weights, of first against second showings."""
    repeat_icc: IntraclassCorrelation | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement between readers on the items of one source that all of them judged, first showings."""

    source: MaskSource | None
    """None for model and manual together."""
    items: int
    icc: IntraclassCorrelation | None
    kappas: tuple[tuple[str, str, float | None], ...]
    """Weighted kappa, quadratic weights, of each pair of readers."""


@dataclass(frozen=True, slots=True)
class StudyScores:
    """The results of a study."""

    key: Key
    readers: tuple[ReaderScores, ...]
    agreement: tuple[Agreement, ...]
    """Empty for a single reader, who has nobody to agree with."""


def score_study(key: Key, readings: Sequence[Reading], groupings: Sequence[Grouping], seed: int = 1) -> StudyScores:
    """Analyse the readings; the seed is that of bootstrap intervals."""
    readers = tuple(_reader(key, reading, groupings, seed) for reading in readings)
    sources: tuple[MaskSource | None, ...] = (*MaskSource, None)
    agreement = tuple(_agreement(key, readings, source) for source in sources) if len(readings) > 1 else ()
    return StudyScores(key, readers, agreement)


def _reader(key: Key, reading: Reading, groupings: Sequence[Grouping], seed: int) -> ReaderScores:
    by_case = {source: _first_showings(key, reading, source) for source in MaskSource}
    paired = sorted(set(by_case[MaskSource.MODEL]) & set(by_case[MaskSource.MANUAL]))
    model, manual = ([by_case[source][case] for case in paired] for source in (MaskSource.MODEL, MaskSource.MANUAL))
    cross = cross_table(model, manual)
    twice = [
        (reading.scores[item.repeat_of], reading.scores[item.item_id])
        for item in key.items
        if item.repeat_of is not None and {item.repeat_of, item.item_id} <= reading.scores.keys()
    ]
    return ReaderScores(
        reader=reading.reader,
        sources=tuple(
            SourceScores(source, found, sum(score >= ACCEPTABLE for score in scores.values()))
            for source, scores in by_case.items()
            if (found := spread(list(scores.values()), seed))
        ),
        cross=cross,
        cross_chi_square=chi_square(cross),
        paired_p=compare_pairs(model, manual),
        subgroups=_subgroups(by_case, groupings),
        repeats=len(twice),
        repeat_kappa=weighted_kappa([first for first, _ in twice], [second for _, second in twice], SCORES),
        repeat_icc=intraclass_correlation(twice) if len(twice) > 1 else None,
    )


def _first_showings(key: Key, reading: Reading, source: MaskSource) -> dict[str, int]:
    return {
        item.case_id: reading.scores[item.item_id]
        for item in key.items
        if item.source is source and item.repeat_of is None and item.item_id in reading.scores
    }


def cross_table(rows: Sequence[int], columns: Sequence[int]) -> Counts:
    """Count how often each pair of scores was given."""
    pairs = list(zip(rows, columns, strict=True))
    return tuple(tuple(pairs.count((row, column)) for column in SCORES) for row in SCORES)


def _subgroups(
    by_case: Mapping[MaskSource, Mapping[str, int]], groupings: Sequence[Grouping]
) -> tuple[SubgroupTable, ...]:
    tables = [_subgroup(source, scores, grouping) for source, scores in by_case.items() for grouping in groupings]
    corrected = iter(holm([table.chi_square.p for table in tables if table.chi_square is not None]))
    return tuple(table if table.chi_square is None else replace(table, p_holm=next(corrected)) for table in tables)


def _subgroup(source: MaskSource, scores: Mapping[str, int], grouping: Grouping) -> SubgroupTable:
    values: dict[str, list[int]] = {}
    for case, score in sorted(scores.items()):
        if group := grouping.groups.get(case):
            values.setdefault(group, []).append(score)
    groups = tuple(sorted(values))
    counts = tuple(tuple(values[group].count(score) for group in groups) for score in SCORES)
    return SubgroupTable(
        source=source,
        grouping=grouping.name,
        groups=groups,
        counts=counts,
        chi_square=chi_square(counts) if groups else None,
        difference=compare_groups(values[groups[0]], values[groups[1]]) if len(groups) == 2 else None,
        p_holm=None,
    )


def _agreement(key: Key, readings: Sequence[Reading], source: MaskSource | None) -> Agreement:
    shared = [
        item.item_id
        for item in key.items
        if item.repeat_of is None
        and (source is None or item.source is source)
        and all(item.item_id in reading.scores for reading in readings)
    ]
    columns = {reading.reader: [reading.scores[item] for item in shared] for reading in readings}
    ratings = list(zip(*columns.values(), strict=True))
    return Agreement(
        source=source,
        items=len(shared),
        icc=intraclass_correlation(ratings) if len(shared) > 1 else None,
        kappas=tuple(
            (one, other, weighted_kappa(columns[one], columns[other], SCORES))
            for one, other in combinations(columns, 2)
        ),
    )
