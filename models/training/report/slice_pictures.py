"""Draw slices of a case in grey with the contours of masks in colour, for reports and reader studies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dicom_seg.contours import contour_map
from dicom_seg.patient_orientation import opposite_letters, orientation_letters
from models.labels import LABELS, Role, find_label
from pipeline.reference import reference_on_one_grid
from pipeline.volume import Geometry, Volume

Colour = tuple[int, int, int]
Window = tuple[float, float]

ADC_WINDOW: Window = (0.0, 3000.0)
"""10^-6 mm2/s, the same for every case."""
_PERCENTILES = (1.0, 99.5)
_LONG_SIDE_PX = 384
_COLOURS: Mapping[str, Colour] = {label.name: label.colour_rgb for label in LABELS} | {
    "TC": (70, 210, 100),
    "WT": (70, 215, 235),
    "ET": (235, 90, 225),
    "RC": (255, 140, 20),
}
"""Colours of the registered labels, and of BraTS's regions as data sets of format 2 call them."""
_FURTHER_COLOURS: tuple[Colour, ...] = ((160, 110, 255), (190, 235, 60), (255, 175, 185), (175, 125, 70))


@dataclass(frozen=True, slots=True)
class Outline:
    """A mask of one slice and the colour of its contour."""

    mask: NDArray[np.bool_]
    """(rows, columns)"""
    colour: Colour


def window_of(volume: Volume, role: Role) -> Window:
    """Return the values of black and white: percentiles of what is brighter than air; for ADC a fixed scale."""
    if role is Role.ADC:
        return ADC_WINDOW
    known = volume.pixels[np.isfinite(volume.pixels)]
    if not known.size:
        return 0.0, 1.0
    inside = known[known > 0.1 * np.percentile(known, 99)]
    low, high = (float(value) for value in np.percentile(inside if inside.size else known, _PERCENTILES))
    return low, max(high, low + 1e-6)


def size_of(geometry: Geometry) -> tuple[int, int]:
    """Return (width, height) in pixels of a slice that is enlarged to square pixels."""
    _, rows, columns = geometry.shape
    _, between_rows, between_columns = geometry.spacing_mm
    width_mm, height_mm = columns * between_columns, rows * between_rows
    scale = _LONG_SIDE_PX / max(width_mm, height_mm)
    return max(1, round(width_mm * scale)), max(1, round(height_mm * scale))


def grey_slice(volume: Volume, index: int, window: Window) -> Image.Image:
    """Draw one slice in grey (mode L) with the directions of its edges; missing values are black."""
    low, high = window
    grey = np.nan_to_num((volume.pixels[index] - low) / (high - low), nan=0.0).clip(0, 1) * 255
    picture = Image.fromarray(grey.round().astype(np.uint8)).resize(size_of(volume.geometry), Image.Resampling.BICUBIC)
    _write_directions(picture, volume.geometry)
    return picture


def contours(outlines: Sequence[Outline], size: tuple[int, int]) -> Image.Image:
    """Draw contours on a transparent ground (mode RGBA); where several coincide, they alternate in dashes."""
    drawn = contour_map(np.stack([outline.mask for outline in outlines]), size)
    colours = np.array([(0, 0, 0, 0), *((*outline.colour, 255) for outline in outlines)], np.uint8)
    return Image.fromarray(colours[drawn], "RGBA")


def outlined(grey: Image.Image, outlines: Sequence[Outline]) -> Image.Image:
    """Draw contours on a slice (mode RGB)."""
    picture = grey.convert("RGBA")
    picture.alpha_composite(contours(outlines, grey.size))
    return picture.convert("RGB")


def side_by_side(pictures: Sequence[Image.Image], gap_px: int = 4) -> Image.Image:
    """Put pictures of one height into a row, in the mode of the first."""
    width = sum(picture.width + gap_px for picture in pictures) - gap_px
    row = Image.new(pictures[0].mode, (width, pictures[0].height))
    left = 0
    for picture in pictures:
        row.paste(picture, (left, 0))
        left += picture.width + gap_px
    return row


def in_few_colours(picture: Image.Image, greys: int, colours: Sequence[Colour]) -> Image.Image:
    """Convert an RGB picture of greys and a few pure colours to a palette (mode P): a fraction of the bytes as PNG.

    Other colours become the grey of their red.
    """
    pixels = np.asarray(picture.convert("RGB"))
    index = np.rint(pixels[..., 0] * ((greys - 1) / 255)).astype(np.uint8)
    for place, colour in enumerate(colours):
        index[(pixels == colour).all(axis=-1)] = greys + place
    steps = [[round(255 * step / (greys - 1))] * 3 for step in range(greys)]
    few = Image.fromarray(index, "P")
    few.putpalette([part for colour in (*steps, *colours) for part in colour])
    return few


def colours_of(labels: Sequence[str]) -> tuple[Colour, ...]:
    """Return the colours of the labels of one picture: fixed ones for known labels, others by position.

    No two labels share a colour as long as there are enough colours.
    """
    free = [*_FURTHER_COLOURS, *(colour for name, colour in _COLOURS.items() if name not in labels)]
    others = [label for label in labels if label not in _COLOURS]
    chosen = {**_COLOURS, **{label: free[place % len(free)] for place, label in enumerate(others)}}
    return tuple(chosen[label] for label in labels)


def title_of(label: str) -> str:
    """Return what a person calls a label."""
    known = find_label(label)
    return label if known is None else known.title


def drawn_on(label: str, volumes: Mapping[Role, Volume]) -> Role:
    """Return the channel to draw a label on: the one on which it is defined, else T1CE or what stands in for it."""
    known = find_label(label)
    role = Role.T1CE if known is None else known.defined_on
    return role if role in volumes else reference_on_one_grid(volumes)


def _write_directions(picture: Image.Image, geometry: Geometry) -> None:
    right, down = orientation_letters(geometry.column_step_mm), orientation_letters(geometry.row_step_mm)
    width, height = picture.size
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(14)
    for letters, point, anchor in (
        (opposite_letters(right), (4, height // 2), "lm"),
        (right, (width - 4, height // 2), "rm"),
        (opposite_letters(down), (width // 2, 4), "ma"),
        (down, (width // 2, height - 4), "md"),
    ):
        draw.text(point, letters, fill=255, font=font, anchor=anchor, stroke_width=1, stroke_fill=0)
