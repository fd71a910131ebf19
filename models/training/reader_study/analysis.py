"""What the readings come to: means, agreement, and the tests of Wan et al. 2024. Knows no files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models.training.evaluation.subgroups import Grouping
from models.training.reader_study.answer_key import Key, Source
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
    """Model or manual, by one reader."""

    source: Source
    scores: Spread
    acceptable: int
    """Cases that scored ACCEPTABLE or more."""


@dataclass(frozen=True, slots=True)
class SubgroupTable:
    """Scores of one source by group, as in table 3 of Wan et al."""

    source: Source
    grouping: str
    groups: tuple[str, ...]
    counts: Counts
    """A column for each group."""
    chi_square: ChiSquare | None
    """What they report; it knows no order of the scores."""
    difference: GroupDifference | None
    """Mann-Whitney U of two groups, which knows the order; None for more groups."""
    p_holm: float | None
    """Chi-square's p, corrected for all tables of this reader."""


@dataclass(frozen=True, slots=True)
class ReaderScores:
    """One reader."""

    reader: str
    sources: tuple[SourceScores, ...]
    cross: Counts
    """Model by row, manual by column, as in table 2 of Wan et al."""
    cross_chi_square: ChiSquare | None
    """Their test of table 2. It asks whether both scores go together, not whether they differ."""
    paired_p: float | None
    """Wilcoxon's signed-rank test of model against manual, case by case: whether they differ."""
    subgroups: tuple[SubgroupTable, ...]
    repeats: int
    repeat_kappa: float | None
    """Quadratic weights; first against second showing."""
    repeat_icc: IntraclassCorrelation | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """Readers against each other on the items of one source that all of them judged, first showings."""

    source: Source | None
    """None for model and manual together."""
    items: int
    icc: IntraclassCorrelation | None
    kappas: tuple[tuple[str, str, float | None], ...]
    """Pair by pair, quadratic weights."""


@dataclass(frozen=True, slots=True)
class StudyScores:
    """All of a study."""

    key: Key
    readers: tuple[ReaderScores, ...]
    agreement: tuple[Agreement, ...]
    """Empty with one reader."""


def score_study(key: Key, readings: Sequence[Reading], groupings: Sequence[Grouping], seed: int = 1) -> StudyScores:
    """Score what was read; the seed is that of bootstrap intervals."""
    readers = tuple(_reader(key, reading, groupings, seed) for reading in readings)
    sources: tuple[Source | None, ...] = (*Source, None)
    agreement = tuple(_agreement(key, readings, source) for source in sources) if len(readings) > 1 else ()
    return StudyScores(key, readers, agreement)


def _reader(key: Key, reading: Reading, groupings: Sequence[Grouping], seed: int) -> ReaderScores:
    by_case = {source: _first_showings(key, reading, source) for source in Source}
    paired = sorted(set(by_case[Source.MODEL]) & set(by_case[Source.MANUAL]))
    model, manual = ([by_case[source][case] for case in paired] for source in (Source.MODEL, Source.MANUAL))
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


def _first_showings(key: Key, reading: Reading, source: Source) -> dict[str, int]:
    return {
        item.case_id: reading.scores[item.item_id]
        for item in key.items
        if item.source is source and item.repeat_of is None and item.item_id in reading.scores
    }


def cross_table(rows: Sequence[int], columns: Sequence[int]) -> Counts:
    """How often each pair of scores was given."""
    pairs = list(zip(rows, columns, strict=True))
    return tuple(tuple(pairs.count((row, column)) for column in SCORES) for row in SCORES)


def _subgroups(by_case: Mapping[Source, Mapping[str, int]], groupings: Sequence[Grouping]) -> tuple[SubgroupTable, ...]:
    tables = [_subgroup(source, scores, grouping) for source, scores in by_case.items() for grouping in groupings]
    tested = [table for table in tables if table.chi_square is not None]
    corrected = dict(
        zip(map(id, tested), holm([table.chi_square.p for table in tested if table.chi_square]), strict=True)
    )
    return tuple(
        SubgroupTable(
            table.source,
            table.grouping,
            table.groups,
            table.counts,
            table.chi_square,
            table.difference,
            corrected.get(id(table)),
        )
        for table in tables
    )


def _subgroup(source: Source, scores: Mapping[str, int], grouping: Grouping) -> SubgroupTable:
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


def _agreement(key: Key, readings: Sequence[Reading], source: Source | None) -> Agreement:
    shared = [
        item.item_id
        for item in key.items
        if item.repeat_of is None
        and (source is None or item.source is source)
        and all(item.item_id in reading.scores for reading in readings)
    ]
    columns = {reading.reader: [reading.scores[item] for item in shared] for reading in readings}
    names = list(columns)
    pairs = [(one, other) for number, one in enumerate(names) for other in names[number + 1 :]]
    ratings = list(zip(*columns.values(), strict=True))
    return Agreement(
        source=source,
        items=len(shared),
        icc=intraclass_correlation(ratings) if len(shared) > 1 else None,
        kappas=tuple((one, other, weighted_kappa(columns[one], columns[other], SCORES)) for one, other in pairs),
    )
