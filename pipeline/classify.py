"""What a series is, by rules over its description and headers, with the evidence. Compares no series."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from models.labels import Role
from pipeline.rules import Effect, HeaderFields, HeaderTest, Mark, Rules, TextTest, normalised


@dataclass(frozen=True, slots=True)
class Evidence:
    """One rule that spoke."""

    rule: str
    source: str
    """Where it was found: "description", "header" or "archive's type"."""
    weights: tuple[tuple[Role, float], ...]
    """Points that it gives to roles; none for a mark."""

    @property
    def text(self) -> str:
        """For a person: what was found, where, and what it weighs."""
        points = ", ".join(f"{role} {points:+g}" for role, points in self.weights)
        return f"{self.source}: {self.rule}" + (f" ({points})" if points else "")


@dataclass(frozen=True, slots=True)
class FoundMark:
    """A mark that a series bears."""

    name: str
    source: str
    effect: Effect


@dataclass(frozen=True, slots=True)
class Classification:
    """What a series is by itself."""

    role: Role | None
    confidence: float
    """Share of the winning answer, 0 to 1; of "none" where `role` is None."""
    evidence: tuple[Evidence, ...]
    marks: tuple[FoundMark, ...]

    def bears(self, effect: Effect) -> tuple[str, ...]:
        """Names of the marks with this effect."""
        return tuple(dict.fromkeys(mark.name for mark in self.marks if mark.effect is effect))


def classify(description: str, fields: HeaderFields | None, rules: Rules, archive_type: str = "") -> Classification:
    """The role of a series from its description and, where they are known, its header fields.

    `archive_type` is what its archive calls it. Archives copy the description there until a person says better, so only
    what the description does not say already counts, and by the share that the rules give to it: enough to tip the
    scales, too little to go against a clear description or to decide alone.
    """
    text = normalised(description)

    def spoke(test: TextTest | HeaderTest) -> bool:
        if isinstance(test, TextTest):
            return test.matches(text)
        return fields is not None and test.matches(fields)

    evidence = tuple(Evidence(term.name, _source(term.test), term.weights) for term in rules.terms if spoke(term.test))
    evidence += _hints(normalised(archive_type), evidence, rules)
    marks = _marks(rules.marks, spoke)
    points = dict.fromkeys(Role, 0.0)
    for item in evidence:
        for role, weight in item.weights:
            points[role] += weight
    if any(mark.effect is Effect.NONE for mark in marks):
        return Classification(None, 1.0, evidence, marks)
    winner, confidence = _decide(points, rules)
    return Classification(winner, confidence, evidence, marks)


def classify_description(description: str, rules: Rules) -> Classification:
    """The role that a description alone suggests, for a site's dry run."""
    return classify(description, None, rules)


def _hints(archive_type: str, known: tuple[Evidence, ...], rules: Rules) -> tuple[Evidence, ...]:
    said = {item.rule for item in known if item.source == "description"}
    return tuple(
        Evidence(term.name, "archive's type", tuple((role, points * rules.hint) for role, points in term.weights))
        for term in rules.terms
        if isinstance(term.test, TextTest) and term.name not in said and term.test.matches(archive_type)
    )


def _source(test: TextTest | HeaderTest) -> str:
    return "description" if isinstance(test, TextTest) else "header"


def _marks(marks: tuple[Mark, ...], spoke: Callable[[TextTest | HeaderTest], bool]) -> tuple[FoundMark, ...]:
    return tuple(FoundMark(mark.name, _source(mark.test), mark.effect) for mark in marks if spoke(mark.test))


def _decide(points: dict[Role, float], rules: Rules) -> tuple[Role | None, float]:
    """Softmax over the roles and "none": points are log-odds."""
    highest = max(rules.none_points, *points.values())
    none = math.exp(rules.none_points - highest)
    shares = {role: math.exp(value - highest) for role, value in points.items()}
    total = none + sum(shares.values())
    best = max(shares, key=lambda role: shares[role])
    if shares[best] <= none or shares[best] / total < rules.least_confidence:
        return None, 1.0 - shares[best] / total
    return best, shares[best] / total
