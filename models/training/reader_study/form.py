"""The reader's form: one static page that works from a disk, without any network. Knows no masks and no key."""

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from string import ascii_uppercase

from models.training.reader_study.likert_scale import BRANCHES, NAMES, PENALTY, Missing
from models.training.report.slice_pictures import colours_of, title_of

WORDS = {
    Missing.NONE: "Complete: nothing is missing",
    Missing.UNDER_QUARTER: "Less than a quarter is missing",
    Missing.OVER_QUARTER: "More than a quarter is missing",
    Missing.QUARTER_TO_HALF: "A quarter to a half is missing",
    Missing.OVER_HALF: "More than half is missing",
}
NOTHING_OR_LITTLE = "Nothing, or less than a quarter, is missing"
"""Where the first step said "not consistent" there is no answer for nothing at all."""
ANSWERS_FORMAT = 1


def form_page(
    study: str,
    sequences: Sequence[str],
    labels: Sequence[str],
    slices: Mapping[str, int],
    orders: Sequence[Sequence[str]],
) -> str:
    """The page; `slices` says how many pictures each item has, `orders` in which order each reader sees the items."""
    told = {
        "format": ANSWERS_FORMAT,
        "study": study,
        "sequences": list(sequences),
        "labels": [
            {"title": title_of(label), "colour": _css(colour)}
            for label, colour in zip(labels, colours_of(labels), strict=True)
        ],
        "slices": dict(sorted(slices.items())),
        "orders": dict(zip(ascii_uppercase, map(list, orders), strict=False)),
        "branches": {
            str(consistent).lower(): [
                [missing.value, _words(missing, consistent), score] for missing, score in branch.items()
            ]
            for consistent, branch in BRANCHES.items()
        },
        "penalty": PENALTY,
        "names": {str(score): name for score, name in NAMES.items()},
    }
    # "</" would end the script that it stands in.
    return _template().replace("/*TOLD*/ null", json.dumps(told).replace("</", "<\\/"))


def _words(missing: Missing, consistent: bool) -> str:
    return NOTHING_OR_LITTLE if missing is Missing.UNDER_QUARTER and not consistent else WORDS[missing]


def _template() -> str:
    return (files("models.training.reader_study") / "form.html").read_text(encoding="utf-8")


def _css(colour: tuple[int, int, int]) -> str:
    return "#" + "".join(f"{part:02x}" for part in colour)
