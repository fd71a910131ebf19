"""Draw a case: truth and result label by label, as a PNG. Writes no files."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from models.labels import Role
from models.training.evaluation.score import Mask, Masks
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
    """A picture of a case with the contours of truth and result."""

    png: bytes
    """A panel for each label, side by side."""
    slices: tuple[int, ...]
    """The slice of each panel, from 0."""


def draw_overlay(
    volumes: Mapping[Role, Volume], labels: Sequence[str], truth: Masks, found: Masks, show_errors: bool
) -> Overlay:
    """Draw truth and result of each label in one slice of the series on which the label is defined.

    Volumes and masks (labels, slices, rows, columns) stand on one grid. With `show_errors` the slice is that where
    truth and result differ most, else where the truth is largest. Without it the slice is that where the truth is
    largest; of a label without a truth, where the lesion is largest and, without a lesion, where most was found.
    """
    lesion = np.logical_or.reduce(truth)
    panels, slices = [], []
    for label, true, result in zip(labels, truth, found, strict=True):
        masks = (true ^ result, true) if show_errors else (true, lesion, result)
        index = _fullest_slice(next((mask for mask in masks if mask.any()), true))
        role = drawn_on(label, volumes)
        grey = grey_slice(volumes[role], index, window_of(volumes[role], role))
        panels.append(outlined(grey, (Outline(true[index], TRUE_COLOUR), Outline(result[index], FOUND_COLOUR))))
        slices.append(index)
    row = side_by_side(panels)
    png = b""
    for greys in _GREYS:
        png = _png(in_few_colours(row, greys, (TRUE_COLOUR, FOUND_COLOUR)))
        if len(png) < SMALL_BYTES:
            break
    return Overlay(png, tuple(slices))


def _png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "png", optimize=True)
    return stream.getvalue()


def _fullest_slice(mask: Mask) -> int:
    inside = np.count_nonzero(mask, axis=(1, 2))
    return int(inside.argmax()) if inside.any() else len(mask) // 2
