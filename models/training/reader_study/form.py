"""Render the form for readers: one static page that works from a disk, without any network."""

from collections.abc import Mapping, Sequence
from string import ascii_uppercase

from models.training.reader_study.answers import ANSWERS_FORMAT
from models.training.reader_study.likert_scale import BRANCHES, NAMES, PENALTY, Missing
from models.training.report.html import render
from models.training.report.slice_pictures import colours_of, title_of

_MISSING_TITLES = {
    Missing.NONE: "Complete: nothing is missing",
    Missing.UNDER_QUARTER: "Less than a quarter is missing",
    Missing.OVER_QUARTER: "More than a quarter is missing",
    Missing.QUARTER_TO_HALF: "A quarter to a half is missing",
    Missing.OVER_HALF: "More than half is missing",
}
_NOTHING_OR_LITTLE = "Nothing, or less than a quarter, is missing"
"""After "not consistent" in the first step there is no separate answer for nothing at all."""


def form_page(
    study: str,
    sequences: Sequence[str],
    labels: Sequence[str],
    slices: Mapping[str, int],
    orders: Sequence[Sequence[str]],
) -> str:
    """Return the page; `slices` is the number of pictures of each item, `orders` the order of items for each reader."""
    return render(
        "reader_study/form.html.jinja",
        study={
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
                    [missing.value, _title(missing, consistent), score] for missing, score in branch.items()
                ]
                for consistent, branch in BRANCHES.items()
            },
            "penalty": PENALTY,
            "names": {str(score): name for score, name in NAMES.items()},
        },
    )


def _title(missing: Missing, consistent: bool) -> str:
    return _NOTHING_OR_LITTLE if missing is Missing.UNDER_QUARTER and not consistent else _MISSING_TITLES[missing]


def _css(colour: tuple[int, int, int]) -> str:
    return "#" + "".join(f"{part:02x}" for part in colour)
