"""Draw pictures for a PACS that does not show SEG: the series side by side with contours, above a table.

A picture contains nothing about the patient.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dicom_seg import equipment
from dicom_seg.contours import contour_map
from dicom_seg.patient_orientation import opposite_letters, orientation_letters, slice_position
from models.labels import Label, Role
from pipeline.result import LabelMeasurement, NotReported, Panels, SegmentationResult
from pipeline.volume import Geometry

Picture = NDArray[np.uint8]
"""(rows, columns, 3), RGB."""
Window = tuple[float, float]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
"""Pillow's built-in font, which is scalable if Pillow was built with FreeType, as its wheels are."""

LONG_SIDE_PX = (384, 512)
"""Limits for the longer side of a slice; within them a slice of square voxels keeps its size."""
NARROWEST_PX = 256
"""Narrower slices get black margins, so that text fits."""
HEADER_PX, FOOTER_PX, GAP_PX = 24, 102, 4
ADC_WINDOW: Window = (0.0, 3000.0)
"""10^-6 mm2/s, up to free water at body temperature; fixed, so that studies can be compared."""
_PERCENTILES = (1.0, 99.5)
_FONT_PX, _LINE_PX, _ROWS = 16, 23, 3
_TABLE_PX = 400
"""Width of the table."""
_NARROWEST_PICTURE_PX = 3 * NARROWEST_PX + 2 * GAP_PX
"""The width of three narrow panels; the table and the model stand side by side in it."""
_MARGIN_PX = 8
_WHITE, _GREY, _WARNING = (255, 255, 255), (160, 160, 160), (255, 190, 60)


@dataclass(frozen=True, slots=True)
class Layout:
    """Sizes in a picture, (width, height) in pixels."""

    image: tuple[int, int]
    """A slice, enlarged to square pixels."""
    panel: tuple[int, int]
    """The area for a slice, at least NARROWEST_PX wide."""

    def corner(self, number: int) -> tuple[int, int]:
        """Return (x, y) of the upper left pixel of the slice in panel `number`, from 0."""
        return (
            number * (self.panel[0] + GAP_PX) + (self.panel[0] - self.image[0]) // 2,
            HEADER_PX + (self.panel[1] - self.image[1]) // 2,
        )

    def size(self, panels: int, further_lines: int = 0) -> tuple[int, int]:
        """Return (width, height) of a picture with this many panels, and lines beyond the table of three labels."""
        return self.width(panels), HEADER_PX + self.panel[1] + FOOTER_PX + further_lines * _LINE_PX

    def width(self, panels: int) -> int:
        """Return the width of a picture with this many panels."""
        return max(panels * (self.panel[0] + GAP_PX) - GAP_PX, _NARROWEST_PICTURE_PX)


def layout(geometry: Geometry) -> Layout:
    """Return sizes for the slices of a geometry that keep their true proportions for any spacing."""
    _, rows, columns = geometry.shape
    _, between_rows, between_columns = geometry.spacing_mm
    width_mm, height_mm = columns * between_columns, rows * between_rows
    longer_mm = max(width_mm, height_mm)
    longer_px = np.clip(longer_mm / min(between_rows, between_columns), *LONG_SIDE_PX)
    width, height = (max(1, round(float(length / longer_mm * longer_px))) for length in (width_mm, height_mm))
    return Layout((width, height), (max(width, NARROWEST_PX), height))


def draw_pictures(result: SegmentationResult, panels: Panels) -> Iterator[Picture]:
    """Yield one picture for each slice of `panels`, in their order."""
    geometry = result.source(result.reference).geometry
    sizes = layout(geometry)
    font = ImageFont.load_default(_FONT_PX)
    windows = _windows(panels, result.reference)
    background = _background(result, panels.roles, sizes, font)
    for number, index in enumerate(panels.slice_indices):
        picture = background.copy()
        contours = contour_map(result.masks[:, index], sizes.image)
        for panel, window in enumerate(windows):
            slice_image = _slice_image(panels.pixels[panel, number], window, contours, sizes.image, result.labels)
            picture.paste(slice_image, sizes.corner(panel))
        draw = ImageDraw.Draw(picture)
        for panel in range(len(windows)):
            _write_directions(draw, geometry, sizes, panel, font)
        where = f"Slice {index + 1} of {geometry.shape[0]}, {slice_position(geometry, index)}"
        draw.text((picture.width - 8, picture.height - 8), where, fill=_WHITE, font=font, anchor="rs")
        yield np.asarray(picture)


def _windows(panels: Panels, reference: Role) -> list[Window]:
    """Return the grey-level window of each role, the same for all slices: percentiles in the head, or fixed for ADC."""
    # Every second row and column is enough for a percentile.
    sample = panels.pixels[:, :, ::2, ::2]
    shown = sample[panels.roles.index(reference)]
    known = shown[np.isfinite(shown)]
    head = shown > (0.1 * np.percentile(known, 99) if known.size else np.inf)
    return [
        _window(role, values[head & np.isfinite(values)]) for role, values in zip(panels.roles, sample, strict=True)
    ]


def _window(role: Role, inside: NDArray[np.float32]) -> Window:
    if role is Role.ADC:
        return ADC_WINDOW
    if not inside.size:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(inside, _PERCENTILES))
    return low, max(high, low + 1e-6)


def _slice_image(
    pixels: NDArray[np.float32],
    window: Window,
    contours: NDArray[np.uint8],
    size: tuple[int, int],
    labels: tuple[Label, ...],
) -> Image.Image:
    low, high = window
    grey = (np.nan_to_num((pixels - low) / (high - low), nan=0.0).clip(0, 1) * 255).round().astype(np.uint8)
    enlarged = np.array(Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC).convert("RGB"))
    drawn = contours > 0
    enlarged[drawn] = np.array([label.colour_rgb for label in labels], np.uint8)[contours[drawn] - 1]
    return Image.fromarray(enlarged)


def _write_directions(draw: ImageDraw.ImageDraw, geometry: Geometry, sizes: Layout, panel: int, font: Font) -> None:
    """Write the patient direction at each edge of a slice, e.g. R at the left edge of an axial slice."""
    right, down = orientation_letters(geometry.column_step_mm), orientation_letters(geometry.row_step_mm)
    (x, y), (width, height) = sizes.corner(panel), sizes.image
    for letters, point, anchor in (
        (opposite_letters(right), (x + 4, y + height // 2), "lm"),
        (right, (x + width - 4, y + height // 2), "rm"),
        (opposite_letters(down), (x + width // 2, y + 4), "ma"),
        (down, (x + width // 2, y + height - 4), "md"),
    ):
        draw.text(point, letters, fill=_WHITE, font=font, anchor=anchor, stroke_width=1, stroke_fill=(0, 0, 0))


def _background(result: SegmentationResult, roles: tuple[Role, ...], sizes: Layout, font: Font) -> Image.Image:
    """Draw what all pictures of a result share: the roles above, the table, the model and the remarks below."""
    remarks = [
        line for each in result.remarks for line in _wrapped(each.text, sizes.width(len(roles)) - 2 * _MARGIN_PX, font)
    ]
    # The model and the use stand beside the table, in three lines.
    rows = max(_ROWS, len(result.measurements) + len(result.not_reported))
    picture = Image.new("RGB", sizes.size(len(roles), rows - _ROWS + len(remarks)))
    draw = ImageDraw.Draw(picture)
    for panel, role in enumerate(roles):
        scale = f", {ADC_WINDOW[0]:.0f}-{ADC_WINDOW[1]:.0f} x 10-6 mm2/s" if role is Role.ADC else ""
        draw.text((panel * (sizes.panel[0] + GAP_PX) + 4, 3), f"{role}{scale}", fill=_WHITE, font=font)
    top = HEADER_PX + sizes.panel[1] + 6
    for row, measurement in enumerate(result.measurements):
        _write_row(draw, measurement, top + row * _LINE_PX, font)
    for row, missing in enumerate(result.not_reported, start=len(result.measurements)):
        _write_row(draw, missing, top + row * _LINE_PX, font)
    for row, line in enumerate(remarks, start=rows):
        draw.text((_MARGIN_PX, top + row * _LINE_PX), line, fill=_WARNING, font=font)
    found = any(measurement.lesion_count for measurement in result.measurements)
    note = "Contours that run together are dashed." if found else _nothing_found(result)
    draw.text((8, picture.height - 8), note, fill=_GREY if found else _WHITE, font=font, anchor="ls")
    node, model = equipment.software_versions(result.model)
    use = equipment.use_warning(result.model) or f"Intended use: {result.model.intended_use}"
    for row, (text, colour) in enumerate(((use, _WARNING), (f"Model: {model}", _WHITE), (f"Node: {node}", _GREY))):
        shown = _truncated(text, picture.width - _TABLE_PX - 16, font)
        draw.text((picture.width - 8, top + row * _LINE_PX), shown, fill=colour, font=font, anchor="ra")
    return picture


def _nothing_found(result: SegmentationResult) -> str:
    if all(measurement.assessed for measurement in result.measurements):
        return "Nothing was found: no label has a voxel."
    return "Nothing was found in the part of the head that was seen."


def _write_row(draw: ImageDraw.ImageDraw, row: LabelMeasurement | NotReported, y: int, font: Font) -> None:
    draw.rectangle((8, y + 3, 20, y + 15), fill=row.label.colour_rgb)
    draw.text((28, y), row.label.title, fill=_WHITE, font=font)
    if isinstance(row, NotReported) or not row.assessed:
        text = f"not reported: no {row.absent}" if isinstance(row, NotReported) else "not found where seen"
        draw.text((_TABLE_PX - 16, y), text, fill=_WARNING, font=font, anchor="ra")
        return
    measurement, count = row, row.lesion_count
    draw.text((290, y), _millilitres(measurement.volume_ml), fill=_WHITE, font=font, anchor="ra")
    draw.text((_TABLE_PX - 16, y), f"{count} lesion{'' if count == 1 else 's'}", fill=_WHITE, font=font, anchor="ra")


def _millilitres(volume_ml: float) -> str:
    # A single voxel of 1 mm3 must not be shown as 0.0 ml.
    return f"{volume_ml:.3f} ml" if 0 < volume_ml < 0.1 else f"{volume_ml:.1f} ml"


def _truncated(text: str, width: int, font: Font) -> str:
    while font.getlength(text) > width:
        text = text.removesuffix("..")[:-1] + ".."
    return text


def _wrapped(text: str, width: int, font: Font) -> list[str]:
    """Return a text as lines that are no wider than `width` pixels, unless a single word is."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
