"""Draw a case: truth and result label by label, as a PNG. Writes no files."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.labels import Role
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
"""Largest size of a picture in a model package."""
_GREYS = (48, 24, 12)
"""Numbers of greys that are tried until a picture is small. Noise takes the bytes, and hides the missing greys."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """The picture of a case."""

    png: bytes
    """A panel for each label, side by side."""
    slices: tuple[int, ...]
    """The slice of each panel, from 0."""


def draw_errors(
    volumes: Mapping[Role, Volume], labels: Sequence[str], truth: NDArray[np.bool_], found: NDArray[np.bool_]
) -> Overlay:
    """Draw each label in the slice where truth and result differ most, else where the truth is largest.

    Volumes and masks (labels, slices, rows, columns) stand on one grid. A label is drawn on the series on which it is
    defined.
    """
    wrong = truth ^ found
    shown = [errors if errors.any() else true for errors, true in zip(wrong, truth, strict=True)]
    return _draw(volumes, labels, truth, found, shown)


def draw_lesion(
    volumes: Mapping[Role, Volume], labels: Sequence[str], truth: NDArray[np.bool_], found: NDArray[np.bool_]
) -> Overlay:
    """Draw each label in the slice where its truth is largest; parameters are those of `draw_errors`.

    A label without a truth is drawn where the lesion is largest and, where there is no lesion, where most was found.
    """
    lesion = np.logical_or.reduce(truth)
    shown = [
        next((mask for mask in (true, lesion) if mask.any()), result) for true, result in zip(truth, found, strict=True)
    ]
    return _draw(volumes, labels, truth, found, shown)


def _draw(
    volumes: Mapping[Role, Volume],
    labels: Sequence[str],
    truth: NDArray[np.bool_],
    found: NDArray[np.bool_],
    shown: Sequence[NDArray[np.bool_]],
) -> Overlay:
    """Draw each label in the slice where the mask in `shown` is largest."""
    slices = tuple(_fullest_slice(mask) for mask in shown)
    row = _panels(volumes, labels, truth, found, slices)
    pngs = (_png(in_few_colours(row, greys, (TRUE_COLOUR, FOUND_COLOUR))) for greys in _GREYS)
    png = b""
    for png in pngs:
        if len(png) < SMALL_BYTES:
            break
    return Overlay(png, slices)


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
