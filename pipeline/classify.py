"""Classify a series by rules over its description and headers, with the evidence."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from models.labels import Role
from pipeline.rules import Effect, HeaderFields, HeaderTest, Mark, Rules, TextTest
from pipeline.wording import normalised, respelled


@dataclass(frozen=True, slots=True)
class Evidence:
    """A term that matched a series."""

    rule: str
    source: str
    """Where it matched: "description", "header" or "archive's type"."""
    weights: tuple[tuple[Role, float], ...]
    """Points that it adds to roles."""

    @property
    def text(self) -> str:
        """Where the term matched, its name and its points, for people."""
        points = ", ".join(f"{role} {points:+g}" for role, points in self.weights)
        return f"{self.source}: {self.rule}" + (f" ({points})" if points else "")


@dataclass(frozen=True, slots=True)
class FoundMark:
    """A mark that matched a series."""

    name: str
    source: str
    effect: Effect


@dataclass(frozen=True, slots=True)
class Classification:
    """The role of a series by itself, without comparison to others."""

    role: Role | None
    confidence: float
    """Probability of the role, 0 to 1; of "no role" if `role` is None."""
    evidence: tuple[Evidence, ...]
    marks: tuple[FoundMark, ...]
    leaning: Role | None = None
    """The role that most of the evidence is for, however weak, and whatever the marks say."""

    def mark_names(self, effect: Effect) -> tuple[str, ...]:
        """Return the names of the marks with this effect."""
        return tuple(dict.fromkeys(mark.name for mark in self.marks if mark.effect is effect))


def classify(description: str, fields: HeaderFields | None, rules: Rules, archive_type: str = "") -> Classification:
    """Classify a series by its description, its header fields if they are known, and the type in its archive.

    Archives copy the description to `archive_type` until somebody corrects it. So it counts only for terms that do not
    match the description, and by the share that the rules give to it: enough to decide an unclear case, too little to
    contradict a clear description or to decide alone.
    """
    readings = _readings(description, rules)

    def matches(test: TextTest | HeaderTest) -> bool:
        if isinstance(test, TextTest):
            return any(test.matches(text) for text in readings)
        return fields is not None and test.matches(fields)

    evidence = tuple(
        Evidence(term.name, _source(term.test), term.weights) for term in rules.terms if matches(term.test)
    )
    evidence += _hints(normalised(archive_type), evidence, rules)
    marks = _marks(rules.marks, matches)
    points = dict.fromkeys(Role, 0.0)
    for item in evidence:
        for role, weight in item.weights:
            points[role] += weight
    leaning = max(points, key=lambda role: points[role])
    leaning_or_none = leaning if points[leaning] > 0 else None
    if any(mark.effect is Effect.NONE for mark in marks):
        return Classification(None, 1.0, evidence, marks, leaning_or_none)
    winner, confidence = _decide(points, rules)
    return Classification(winner, confidence, evidence, marks, leaning_or_none)


def classify_description(description: str, rules: Rules) -> Classification:
    """Classify a description alone."""
    return classify(description, None, rules)


def _readings(text: str, rules: Rules) -> tuple[str, ...]:
    """Return a text as it is written and as it was meant; a site's rules may name a word as it is written."""
    plain = normalised(text)
    return tuple(dict.fromkeys((plain, respelled(plain, rules.vocabulary))))


def _hints(archive_type: str, known: tuple[Evidence, ...], rules: Rules) -> tuple[Evidence, ...]:
    matched = {item.rule for item in known if item.source == "description"}
    return tuple(
        Evidence(term.name, "archive's type", tuple((role, points * rules.hint) for role, points in term.weights))
        for term in rules.terms
        if isinstance(term.test, TextTest) and term.name not in matched and term.test.matches(archive_type)
    )


def _source(test: TextTest | HeaderTest) -> str:
    return "description" if isinstance(test, TextTest) else "header"


def _marks(marks: tuple[Mark, ...], matches: Callable[[TextTest | HeaderTest], bool]) -> tuple[FoundMark, ...]:
    return tuple(FoundMark(mark.name, _source(mark.test), mark.effect) for mark in marks if matches(mark.test))


def _decide(points: dict[Role, float], rules: Rules) -> tuple[Role | None, float]:
    """Return the role of the largest softmax share and that share, or None and the share of no role.

    Points are log-odds.
    """
    highest = max(rules.none_points, *points.values())
    none = math.exp(rules.none_points - highest)
    shares = {role: math.exp(value - highest) for role, value in points.items()}
    total = none + sum(shares.values())
    best = max(shares, key=lambda role: shares[role])
    if shares[best] <= none or shares[best] / total < rules.least_confidence:
        return None, 1.0 - shares[best] / total
    return best, shares[best] / total
