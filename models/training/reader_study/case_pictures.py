"""Draw the pictures of one case for readers: grey slices and, as separate files, the contours of each mask."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.labels import Role
from models.training.evaluation.score import Masks
from models.training.report.slice_pictures import (
    Outline,
    colours_of,
    contours,
    drawn_on,
    grey_slice,
    side_by_side,
    window_of,
)
from pipeline.volume import Volume

GAP_PX = 4
_MARGIN = 2
"""Slices shown beyond the first and the last one with a voxel of a mask."""
_WITHOUT_LABELS = 8
"""Slices shown of a case without any voxel of a mask."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What all items of a case show."""

    volumes: Mapping[Role, Volume]
    """In the order of the sequences; without any value where a case lacks one."""
    labels: tuple[str, ...]
    slices: tuple[int, ...]


def slices_to_show(masks: Sequence[Masks], most: int) -> tuple[int, ...]:
    """Choose at most `most` slices, evenly spread over those where any of the masks has a voxel and a little beyond.

    They are the same for all masks of a case: which slices are shown must not reveal whose mask it is.
    """
    everything = np.logical_or.reduce([mask.any(axis=(0, 2, 3)) for mask in masks])
    filled = np.flatnonzero(everything)
    last = len(everything) - 1
    if not filled.size:
        chosen = np.linspace(0.3 * last, 0.7 * last, min(most, _WITHOUT_LABELS))
    else:
        first, end = max(0, filled[0] - _MARGIN), min(last, filled[-1] + _MARGIN)
        chosen = np.linspace(first, end, min(most, end - first + 1))
    return tuple(int(index) for index in np.unique(chosen.round()))


def write_pictures(scene: Scene, items: Sequence[tuple[str, Masks]], folder: Path) -> None:
    """Write `ID-000.jpg` (grey) and `ID-000.png` (contours) and so on for each item, an id and its masks.

    Files are written in the order of the items, which some archives and file systems keep. Each label is drawn on the
    sequence on which it is defined. The pictures hold no text but directions. Raises OSError.
    """
    windows = {role: window_of(volume, role) for role, volume in scene.volumes.items()}
    seen = {role: volume for role, volume in scene.volumes.items() if np.isfinite(volume.pixels).any()}
    roles = [drawn_on(label, seen) for label in scene.labels]
    for number, index in enumerate(scene.slices):
        greys = {role: grey_slice(volume, index, windows[role]) for role, volume in scene.volumes.items()}
        base = side_by_side(list(greys.values()), GAP_PX)
        for item_id, masks in items:
            drawn = [
                _contours_on(role, scene.labels, roles, masks[:, index], greys[role].size) for role in scene.volumes
            ]
            # 16 colours are enough for those of the labels and transparency, and take a tenth of the bytes.
            lines = side_by_side(drawn, GAP_PX).quantize(16, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
            base.save(folder / f"{item_id}-{number:03d}.jpg", quality=90)
            lines.save(folder / f"{item_id}-{number:03d}.png", optimize=True)


def _contours_on(
    role: Role, labels: Sequence[str], roles: Sequence[Role], masks: NDArray[np.bool_], size: tuple[int, int]
) -> Image.Image:
    outlines = [
        Outline(mask, colour)
        for colour, drawn_role, mask in zip(colours_of(labels), roles, masks, strict=True)
        if drawn_role is role
    ]
    return contours(outlines, size) if outlines else Image.new("RGBA", size)
