"""Load the rules that classify series from TOML, check them, and match them against descriptions and headers."""

import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from models.labels import Role
from pipeline.errors import SettingsWrong
from pipeline.wording import Vocabulary

BUNDLED = Path(__file__).with_name("rules.toml")
FORMAT = 1

_Rule = TypeVar("_Rule", "Term", "Mark")

NUMBER_FIELDS = frozenset(
    {"echo_time_ms", "repetition_time_ms", "inversion_time_ms", "b_value", "images", "orientations", "colour"}
)
WORD_FIELDS = frozenset(
    {"image_type", "scanning_sequence", "acquisition_type", "contrast_agent", "modality", "body_part"}
)


_TEXT_KEYS, _HEADER_KEYS = {"name", "words", "pattern", "needs", "unless"}, {"name", "when", "when_not"}
_KEYS = {
    "term": _TEXT_KEYS | {"weights"},
    "header": _HEADER_KEYS | {"weights"},
    "mark": _TEXT_KEYS | {"effect"},
    "header_mark": _HEADER_KEYS | {"effect"},
}
"""Keys of an entry, by the table that it is in."""
_TABLES = {"format", "settings", "disable", "vocabulary", *_KEYS}


class Effect(StrEnum):
    """The effect of a mark on a series."""

    NONE = "none"
    """The series has none of the roles."""
    REFUSE = "refuse"
    """The series keeps its role but is never chosen."""
    RANK = "rank"
    """The series is chosen only if there is nothing better."""


@dataclass(frozen=True, slots=True)
class TextTest:
    """A search in a normalised description."""

    pattern: re.Pattern[str]
    needs: re.Pattern[str] | None
    unless: re.Pattern[str] | None

    def matches(self, text: str) -> bool:
        """Return whether a text matches, as `pipeline.wording` returns it."""
        return (
            self.pattern.search(text) is not None
            and (self.needs is None or self.needs.search(text) is not None)
            and (self.unless is None or self.unless.search(text) is None)
        )


@dataclass(frozen=True, slots=True)
class HeaderTest:
    """Conditions on header fields, all of which must hold."""

    ranges: tuple[tuple[str, float, float], ...]
    words: tuple[tuple[str, frozenset[str]], ...]
    other_words: tuple[tuple[str, frozenset[str]], ...]
    """Fields that must have a value, but none of these."""

    def matches(self, fields: "HeaderFields") -> bool:
        """Return whether the fields of a series match; a test of an absent field never does."""
        numbers, words = dict(fields.numbers), dict(fields.words)
        return (
            all(name in numbers and low <= numbers[name] <= high for name, low, high in self.ranges)
            and all(words.get(name, frozenset()) & wanted for name, wanted in self.words)
            and all(words.get(name) and not words[name] & others for name, others in self.other_words)
        )


_Test = TextTest | HeaderTest


@dataclass(frozen=True, slots=True)
class HeaderFields:
    """The header fields of a series that rules can test, by their names in rules.toml."""

    numbers: tuple[tuple[str, float], ...]
    words: tuple[tuple[str, frozenset[str]], ...]


@dataclass(frozen=True, slots=True)
class Term:
    """A rule that adds points to roles."""

    name: str
    test: _Test
    weights: tuple[tuple[Role, float], ...]


@dataclass(frozen=True, slots=True)
class Mark:
    """A rule that excludes a series or ranks it behind others."""

    name: str
    test: _Test
    effect: Effect


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules, in the order of the file."""

    none_points: float
    """Points of the answer that a series has none of the roles; see rules.toml."""
    least_confidence: float
    hint: float
    """Share of a term's weights if it matches only the archive's type and not the description."""
    terms: tuple[Term, ...]
    marks: tuple[Mark, ...]
    vocabulary: Vocabulary = field(default_factory=Vocabulary)


def load_rules(extra: Path | None = None) -> Rules:
    """Load the bundled rules, extended and overridden by a site's own file.

    Raises SettingsWrong; its message names file, rule and line.
    """
    rules = Rules(0.0, 0.0, 0.0, (), ())
    for path in (BUNDLED, extra):
        if path is not None:
            rules = _extend(rules, path, _read_document(path))
    return rules


def _read_document(path: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise SettingsWrong(f"{path}: these rules cannot be read: {exc}") from exc
    if document.get("format") != FORMAT:
        raise SettingsWrong(f"{path}: rules need a line `format = {FORMAT}`.")
    unknown = sorted(set(document) - _TABLES)
    if unknown:
        raise SettingsWrong(f"{path}: unknown key {unknown[0]!r}{_line(path, unknown[0])}.")
    return document


def _extend(rules: Rules, path: Path, document: dict[str, Any]) -> Rules:
    terms = _read_rules(path, document, "term", _term) + _read_rules(path, document, "header", _term)
    marks = _read_rules(path, document, "mark", _mark) + _read_rules(path, document, "header_mark", _mark)
    dropped = document.get("disable", [])
    if not _are_strings(dropped):
        raise SettingsWrong(f"{path}: `disable` is a list of names of rules{_line(path, 'disable')}.")
    known = {term.name for term in rules.terms} | {mark.name for mark in rules.marks}
    missing = sorted(set(dropped) - known)
    if missing:
        raise SettingsWrong(f"{path}: `disable` names {missing[0]!r}, which is no rule{_line(path, missing[0])}.")
    settings = document.get("settings", {})
    if not isinstance(settings, dict) or not all(type(value) in (int, float) for value in settings.values()):
        raise SettingsWrong(f"{path}: none, least_confidence and hint are numbers{_line(path, 'settings')}.")
    unknown = sorted(set(settings) - {"none", "least_confidence", "hint"})
    if unknown:
        raise SettingsWrong(f"{path}: unknown key {unknown[0]!r} in [settings]{_line(path, unknown[0])}.")
    return Rules(
        none_points=float(settings.get("none", rules.none_points)),
        least_confidence=float(settings.get("least_confidence", rules.least_confidence)),
        hint=float(settings.get("hint", rules.hint)),
        terms=_merge(rules.terms, terms, dropped),
        marks=_merge(rules.marks, marks, dropped),
        vocabulary=_vocabulary(rules.vocabulary, path, document.get("vocabulary", {})),
    )


def _vocabulary(known: Vocabulary, path: Path, lists: Any) -> Vocabulary:
    """Return the known words and those of a file's [vocabulary]."""
    where = f"{path}: [vocabulary]{_line(path, 'vocabulary')}"
    if not isinstance(lists, dict) or set(lists) - {"names", "others"}:
        raise SettingsWrong(f"{where} has two lists, names and others.")
    for words in lists.values():
        if not _are_strings(words) or not all(re.fullmatch("[a-z0-9]{2,}", word) for word in words):
            raise SettingsWrong(f"{where}: its words are lower-case letters and digits, two at least.")
    return Vocabulary(
        names=known.names | frozenset(lists.get("names", ())), others=known.others | frozenset(lists.get("others", ()))
    )


def _merge(old: tuple[_Rule, ...], new: list[_Rule], dropped: list[str]) -> tuple[_Rule, ...]:
    """Replace rules by new ones of the same name and kind: a text rule and a header rule may share a name."""
    replaced = {(rule.name, type(rule.test)) for rule in new}
    kept: list[_Rule] = [
        rule for rule in old if (rule.name, type(rule.test)) not in replaced and rule.name not in dropped
    ]
    return tuple(kept + new)


def _read_rules(
    path: Path, document: dict[str, Any], table: str, make: Callable[[str, dict[str, Any], _Test], _Rule]
) -> list[_Rule]:
    entries = document.get(table, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise SettingsWrong(f"{path}: write rules as [[{table}]]{_line(path, table)}.")
    rules = []
    for entry in entries:
        name = entry.get("name")
        if not isinstance(name, str) or not name:
            raise SettingsWrong(f"{path}: a rule in [[{table}]] has no name.")
        try:
            unknown = sorted(set(entry) - _KEYS[table])
            if unknown:
                raise ValueError(f"unknown key {unknown[0]!r}")
            rules.append(make(name, entry, _header_test(entry) if "when" in _KEYS[table] else _text_test(entry)))
        except KeyError as exc:
            raise SettingsWrong(f"{path}: rule {name!r}{_line(path, name)}: needs `{exc.args[0]}`.") from exc
        except (ValueError, TypeError, AttributeError, re.error) as exc:
            raise SettingsWrong(f"{path}: rule {name!r}{_line(path, name)}: {exc}.") from exc
    return rules


def _term(name: str, entry: dict[str, Any], test: _Test) -> Term:
    return Term(name, test, tuple((Role(role), float(points)) for role, points in entry["weights"].items()))


def _mark(name: str, entry: dict[str, Any], test: _Test) -> Mark:
    return Mark(name, test, Effect(entry["effect"]))


def _are_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _text_test(entry: dict[str, Any]) -> TextTest:
    words, pattern = entry.get("words"), entry.get("pattern")
    if (words is None) == (pattern is None):
        raise ValueError("needs either `words` or `pattern`")
    if words is not None:
        if not words or not _are_strings(words):
            raise ValueError("`words` is a list of regular expressions")
        pattern = rf"(?<![a-z0-9])(?:{'|'.join(words)})(?![a-z0-9])"
    needs, unless = entry.get("needs"), entry.get("unless")
    return TextTest(
        re.compile(str(pattern)), re.compile(needs) if needs else None, re.compile(unless) if unless else None
    )


def _header_test(entry: dict[str, Any]) -> HeaderTest:
    conditions, negated = entry.get("when", {}), entry.get("when_not", {})
    if not conditions and not negated:
        raise ValueError("needs `when` or `when_not`")
    unknown = sorted((set(conditions) | set(negated)) - NUMBER_FIELDS - WORD_FIELDS)
    if unknown:
        raise ValueError(f"unknown header field {unknown[0]!r}")
    if any(name in NUMBER_FIELDS for name in negated):
        raise ValueError("`when_not` takes fields of words only")
    ranges = tuple((name, *_range(name, value)) for name, value in conditions.items() if name in NUMBER_FIELDS)
    words = tuple((name, _words(name, value)) for name, value in conditions.items() if name in WORD_FIELDS)
    return HeaderTest(ranges, words, tuple((name, _words(name, value)) for name, value in negated.items()))


def _range(name: str, value: Any) -> tuple[float, float]:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError(f"{name} takes a range, [low, high]")
    return float(value[0]), float(value[1])


def _words(name: str, value: Any) -> frozenset[str]:
    if not _are_strings(value):
        raise ValueError(f"{name} takes a list of words")
    return frozenset(value)


def _line(path: Path, needle: str) -> str:
    """Return the first line of a file with a word in it, as ", line 12"; empty without one."""
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if needle in line:
            return f", line {number}"
    return ""
