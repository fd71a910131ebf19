"""Pictures of cases: truth and what was found, label by label. Writes no files."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.labels import LABELS, Role
from models.training.evaluation.evaluate_dataset import CaseScore, Compared
from models.training.report.slice_pictures import (
    Outline,
    drawn_on,
    grey_slice,
    in_few_colours,
    outlined,
    side_by_side,
    window_of,
)
from pipeline.volume import Volume

TRUE_COLOUR = (70, 220, 110)
FOUND_COLOUR = (240, 80, 220)
SMALL_BYTES = 150_000
"""What a picture in a model package may have."""
_GREYS = (48, 24, 12)
"""Steps of grey that are tried until a picture is small: noise is what costs, and in noise an eye misses none."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """One case, drawn."""

    score: CaseScore
    slices: tuple[int, ...]
    """The slice of each label, from 0."""
    png: bytes
    """A panel for each label, in the order of the score's labels."""


class WorstCases:
    """Keeps the pictures of the few cases of the lowest mean Dice, among equals of the first ids."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: list[Overlay] = []

    def see(self, compared: Compared) -> None:
        """Draw a case if it is among the worst so far."""
        if self._most and (len(self._kept) < self._most or _rank(compared.score) < _rank(self._kept[-1].score)):
            self._kept = sorted([*self._kept, draw(compared)], key=lambda kept: _rank(kept.score))[: self._most]

    @property
    def kept(self) -> tuple[Overlay, ...]:
        """The worst first."""
        return tuple(self._kept)


def _rank(score: CaseScore) -> tuple[float, str]:
    return score.mean_dice, score.case_id


def draw(compared: Compared) -> Overlay:
    """Each label on its own channel, in the slice where truth and found differ most."""
    slices = [_worst_slice(true, found) for true, found in zip(compared.truth, compared.found, strict=True)]
    row = _panels(compared.volumes, compared.labels, compared.truth, compared.found, slices)
    return Overlay(compared.score, tuple(slices), _png(row))


def draw_lesion(volumes: Mapping[Role, Volume], truth: NDArray[np.bool_], found: NDArray[np.bool_]) -> bytes:
    """LABELS, each on the series on which it is defined, in the slice where it is largest; a PNG in few colours.

    Volumes and masks (labels, slices, rows, columns) are on one grid. A label that is not there shows the slice where
    the lesion is largest, and where there is none the one with most that was found.
    """
    anything = np.logical_or.reduce(truth)
    shown = [
        next((mask for mask in (true, anything) if mask.any()), wrong) for true, wrong in zip(truth, found, strict=True)
    ]
    labels = [label.name for label in LABELS]
    row = _panels(volumes, labels, truth, found, [_fullest_slice(mask) for mask in shown])
    pngs = [_png(in_few_colours(row, greys, (TRUE_COLOUR, FOUND_COLOUR))) for greys in _GREYS]
    return next((png for png in pngs if len(png) < SMALL_BYTES), pngs[-1])


def _panels(
    volumes: Mapping[Role, Volume],
    labels: Sequence[str],
    truth: NDArray[np.bool_],
    found: NDArray[np.bool_],
    slices: Sequence[int],
) -> Image.Image:
    panels = []
    for label, true, guess, index in zip(labels, truth, found, slices, strict=True):
        role = drawn_on(label, volumes)
        volume = volumes[role]
        outlines = (Outline(true[index], TRUE_COLOUR), Outline(guess[index], FOUND_COLOUR))
        panels.append(outlined(grey_slice(volume, index, window_of(volume, role)), outlines))
    return side_by_side(panels)


def _png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "png", optimize=True)
    return stream.getvalue()


def _fullest_slice(mask: NDArray[np.bool_]) -> int:
    inside = np.count_nonzero(mask, axis=(1, 2))
    return int(inside.argmax()) if inside.any() else len(mask) // 2


def _worst_slice(true: NDArray[np.bool_], found: NDArray[np.bool_]) -> int:
    wrong = true ^ found
    return _fullest_slice(wrong if wrong.any() else true)
