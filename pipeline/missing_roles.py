"""Say why a study lacks a role: which series was nearest to it, and what ruled it out. No text from headers."""

from collections.abc import Sequence

from models.labels import Role
from pipeline.classify import Classification
from pipeline.combine_diffusion import CannotCombine
from pipeline.diffusion import MAPS
from pipeline.frames import list_frames
from pipeline.rules import Effect
from pipeline.study import Series

TITLES = {
    Role.T1: "T1 before contrast",
    Role.T1CE: "T1 after contrast",
    Role.T2: "T2",
    Role.FLAIR: "FLAIR",
    Role.ADC: "ADC map",
    Role.DWI: "diffusion series",
}
_ARTICLES = {Role.ADC: "an"}
MOST_NAMED = 3
"""Series that a sentence names for one role."""

Classified = tuple[Series, Classification]


def name_of(series: Series) -> str:
    """Return the name of a series for a sentence: its number and UID."""
    number = "a series without number" if series.series_number is None else f"series {series.series_number}"
    return f"{number} ({series.series_instance_uid})"


def names_of(parts: Sequence[Series]) -> str:
    """Return the numbers of series for a sentence about all of them."""
    numbers = [one.series_number for one in parts]
    if numbers == [None]:
        return "a series without number"
    if None in numbers or len(set(numbers)) < len(numbers):
        return f"{len(parts)} series" + (
            f" with the number {numbers[0]}" if len(set(numbers)) == 1 and numbers[0] else ""
        )
    words = [f"series {number}" for number in numbers]
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def near_misses(role: Role, classified: Sequence[Classified]) -> list[str]:
    """Return a clause for each series that seems to have a role but was not taken for it."""
    found = [
        f"{name_of(series)} {_why_not(role, classification)}"
        for series, classification in classified
        if classification.leaning is role and list_frames(series)
    ]
    if len(found) > MOST_NAMED:
        return [*found[:MOST_NAMED], f"and {len(found) - MOST_NAMED} more like these"]
    return found


def _why_not(role: Role, classification: Classification) -> str:
    marks = (*classification.mark_names(Effect.NONE), *classification.mark_names(Effect.REFUSE))
    if marks:
        return f"seems to be {_ARTICLES.get(role, 'a')} {TITLES[role]}, but was ruled out: {', '.join(marks)}"
    return f"may be {_ARTICLES.get(role, 'a')} {TITLES[role]}, but nothing says so clearly"


def no_source_of_adc(classified: Sequence[Classified], pair: CannotCombine | None, allowed: Series | None) -> list[str]:
    """Return clauses on why no ADC map is computed from diffusion-weighted images; none if there are no such images.

    `pair` are the two weightings if they do not fit each other, `allowed` what a map could be computed from if the
    settings allowed it.
    """
    if allowed is not None:
        return [f"one could be computed from {name_of(allowed)}, but the setting choose.derive_adc is off"]
    if pair is not None:
        return [
            f"{name_of(pair.unweighted)} has b = 0 and {name_of(pair.weighted)} has b around 1000, but {pair.reason}, "
            "so no map can be computed from them"
        ]
    diffusion = [series for series, classification in classified if classification.role is Role.DWI]
    return [f"{name_of(series)} is diffusion-weighted, but {_b_values(series)}" for series in diffusion[:MOST_NAMED]]


def _b_values(series: Series) -> str:
    values = {one.b_value for one in list_frames(series) if one.b_value is not None and not MAPS & set(one.image_type)}
    if not values:
        return "its headers give no b-value"
    shown = [f"{value:g}" for value in sorted(values)]
    listed = ", ".join(shown[:4]) + (" and more" if len(shown) > 4 else "")
    return f"it has b = {listed} only; a map needs b = 0 and b around 1000"
