"""Measure the longest diameter of each enhancing lesion and the longest one perpendicular to it.

RANO (Wen et al., J Clin Oncol 2010;28:1963) calls an enhancing lesion measurable if two perpendicular diameters are at
least 10 mm and it is visible on two or more slices; up to five lesions are followed. The choices made here:

- The plane is that of the T1CE slices, because coordinates in DICOM SR lie on slices. RANO asks for axial ones: for a
  sagittal or coronal series the diameters are sagittal or coronal, and the result must say so.
- The outline in a slice includes necrosis: holes are filled, as RANO measures across the rim. An open rim, such as
  around a resection cavity, encloses nothing and is measured along its wall.
- Lines stay in the lesion: the longest line of a crescent lies within it and does not cross its opening. Parts of a
  slice that are connected only through other slices are measured separately. Lines may cross notches up to two voxels
  wide. The perpendicular meets the longest line, as in viewers' tools, and is not taken from another part of a rim.
- Lines run from outline to outline, half-way between the last voxel inside and the first outside. Ten voxels of 1 mm
  are 10 mm; between centres they would be 9, and a lesion of just 10 mm would never count.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from pipeline.result import Diameter, LesionDiameters
from pipeline.volume import Geometry

MEASURABLE_MM = 10.0
"""RANO: minimum of both diameters."""
MEASURED_AT_MOST = 5
"""RANO: maximum number of target lesions."""

_MARGIN = 2
"""Empty voxels around a lesion in its slice, so that closing and outlines do not meet the border."""
_CHUNK = 4096
"""Lines that are tested at once, the longest first."""
_Points = NDArray[np.float64]


def lesion_diameters(mask: NDArray[np.bool_], geometry: Geometry) -> tuple[LesionDiameters, ...]:
    """Measure both diameters of each measurable lesion; return up to five lesions, the largest product first.

    `mask` is the enhancing tumour, (slices, rows, columns) on `geometry`, the T1CE series' own grid. A lesion is a
    connected component (26-connectivity), as in `measure.count_lesions`. Lengths are accurate to about a voxel. The
    same mask always gives the same lines, even if several are equally long.
    """
    found = ndimage.find_objects(mask.astype(np.uint8))
    if not found or found[0] is None:
        return ()
    box = found[0]
    spacing = np.array(geometry.spacing_mm[1:])
    numbered = ndimage.label(mask[box], structure=np.ones((3, 3, 3)))[0]
    measured = []
    for number, extent in enumerate(ndimage.find_objects(numbered), 1):
        rows_and_columns = np.array([part.stop - part.start for part in extent[1:]])
        if extent[0].stop - extent[0].start < 2 or np.hypot(*(rows_and_columns * spacing)) < MEASURABLE_MM:
            continue
        lesion = np.pad(numbered[extent] == number, ((0, 0), (_MARGIN, _MARGIN), (_MARGIN, _MARGIN)))
        diameters = _measure(lesion, spacing)
        if diameters is not None:
            corner = [outer.start + inner.start for outer, inner in zip(box, extent, strict=True)]
            measured.append(_shifted(diameters, corner[0], (corner[1] - _MARGIN, corner[2] - _MARGIN)))
    measured.sort(key=lambda each: (-each.long.length_mm * each.short.length_mm, each.slice_index, each.long.start))
    return tuple(replace(each, lesion=number) for number, each in enumerate(measured[:MEASURED_AT_MOST], 1))


def _shifted(diameters: LesionDiameters, slices: int, corner: tuple[int, int]) -> LesionDiameters:
    """Shift diameters by `slices` slices and by `corner` (rows, columns)."""

    def move(line: Diameter) -> Diameter:
        start, end = ((row + corner[0], column + corner[1]) for row, column in (line.start, line.end))
        return replace(line, start=start, end=end)

    return replace(
        diameters,
        slice_index=diameters.slice_index + slices,
        long=move(diameters.long),
        short=move(diameters.short),
    )


def _measure(lesion: NDArray[np.bool_], spacing: _Points) -> LesionDiameters | None:
    """Measure one lesion, (slices, rows, columns) with a margin in its slices; None below RANO's limit."""
    longest: tuple[int, NDArray[np.bool_], Diameter] | None = None
    beyond_mm = 0.0
    reaches = np.array([_longest_possible_mm(plane, spacing) for plane in lesion])
    for index in np.argsort(-reaches, kind="stable"):
        if reaches[index] <= max(beyond_mm, MEASURABLE_MM):
            break
        for region in _regions(lesion[index]):
            line = _longest_line(region, spacing, beyond_mm)
            if line is not None:
                longest, beyond_mm = (int(index), region, line), line.length_mm
    if longest is None or beyond_mm < MEASURABLE_MM:
        return None
    slice_index, region, long = longest
    short = _longest_perpendicular(region, long, spacing)
    if short.length_mm < MEASURABLE_MM:
        return None
    return LesionDiameters(lesion=1, slice_index=slice_index, long=long, short=short)


def _longest_possible_mm(plane: NDArray[np.bool_], spacing: _Points) -> float:
    """Return an upper bound of lines in this slice; it is quick and makes it possible to skip most slices."""
    rows = np.flatnonzero(plane.any(axis=1))
    if rows.size == 0:
        return 0.0
    first = plane[rows].argmax(axis=1)
    last = plane.shape[1] - 1 - plane[rows, ::-1].argmax(axis=1)
    ends = np.stack([np.tile(rows, 2), np.concatenate([first, last])], axis=1)
    return float(pdist(ends * spacing).max() + np.hypot(*spacing))


def _regions(plane: NDArray[np.bool_]) -> Iterator[NDArray[np.bool_]]:
    """Yield each connected part of a slice, with its notches closed and its holes filled."""
    neighbours = np.ones((3, 3), bool)
    parts, count = ndimage.label(plane, structure=neighbours)
    for number in range(1, count + 1):
        yield ndimage.binary_fill_holes(ndimage.binary_closing(parts == number, structure=neighbours))


def _outline(region: NDArray[np.bool_]) -> _Points:
    """Return the middles of the voxel edges between inside and outside, (points, 2) as (row, column), sorted."""
    sides = []
    for axis, step in ((0, -1), (0, 1), (1, -1), (1, 1)):
        edge = np.argwhere(region & ~np.roll(region, -step, axis)).astype(float)
        edge[:, axis] += step / 2
        sides.append(edge)
    return np.unique(np.concatenate(sides), axis=0)


def _longest_line(region: NDArray[np.bool_], spacing: _Points, beyond_mm: float) -> Diameter | None:
    """Return the longest line between points of the outline that stays inside; None if none is above `beyond_mm`.

    The longest line of the convex hull is tried first: it nearly always stays inside.
    """
    points = _outline(region)
    # In half voxels, with a margin of one, because lines along a stepped edge leave the voxels there.
    allowed = ndimage.binary_dilation(region.repeat(2, axis=0).repeat(2, axis=1), structure=np.ones((3, 3), bool))
    hull = points[np.sort(ConvexHull(points * spacing).vertices)]
    for candidates, most in ((hull, 1), (points, None)):
        lengths = np.round(pdist(candidates * spacing), 6)
        if lengths.max() <= beyond_mm:
            return None
        long_enough = np.flatnonzero(lengths > beyond_mm)
        order = long_enough[np.argsort(-lengths[long_enough], kind="stable")][:most]
        first, second = np.triu_indices(len(candidates), 1)
        for begin in range(0, len(order), _CHUNK):
            pairs = order[begin : begin + _CHUNK]
            inside = _first_inside(candidates[first[pairs]], candidates[second[pairs]], allowed)
            if inside is not None:
                pair = pairs[inside]
                return _diameter(candidates[first[pair]], candidates[second[pair]], float(lengths[pair]))
    return None


def _first_inside(starts: _Points, ends: _Points, allowed: NDArray[np.bool_]) -> int | None:
    """Return the index of the first line that runs through allowed half voxels only; None without one.

    The middle of each line is tested first, then the middles of its halves, and so on down to half a voxel, because
    most lines that leave a lesion do so in their middle.
    """
    alive = np.arange(len(starts))
    longest = float(np.linalg.norm(ends - starts, axis=1).max())
    for halving in range(1, int(np.ceil(np.log2(2 * longest))) + 1):
        fractions = np.arange(1, 2**halving, 2)[:, None] / 2**halving
        places = starts[alive, None] + fractions * (ends - starts)[alive, None]
        halves = np.floor(2 * places + 1).astype(np.intp)  # a voxel's edge is half a voxel before its centre
        alive = alive[allowed[halves[..., 0], halves[..., 1]].all(axis=1)]
        if alive.size == 0:
            return None
    return int(alive[0])


def _longest_perpendicular(region: NDArray[np.bool_], long: Diameter, spacing: _Points) -> Diameter:
    """Return the longest line in `region` that is perpendicular to `long` (in millimetres, not voxels) and meets it.

    It is never longer than `long`; of equally long ones it is the nearest to the middle. The lines that are tried are
    half a voxel apart, and end where the interpolated mask is one half.
    """
    ends = np.array([long.start, long.end]) * spacing
    along = (ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0])
    across = np.array([-along[1], along[0]])
    voxels = np.argwhere(region) * spacing
    step = float(spacing.min()) / 4
    offsets = np.arange(ends[0] @ along, ends[1] @ along, 2 * step)
    heights = np.arange((voxels @ across).min() - spacing.max(), (voxels @ across).max() + spacing.max() + step, step)
    places = offsets[:, None, None] * along + heights[:, None] * across
    inside = ndimage.map_coordinates(region.astype(np.float64), np.moveaxis(places / spacing, -1, 0), order=1)

    changes = np.diff((inside >= 0.5).astype(np.int8), axis=1)
    rows, before = np.nonzero(changes == 1)
    last = np.nonzero(changes == -1)[1]
    middle = ends.mean(axis=0)
    # `long` may run along the edge of the region.
    apart = np.maximum(heights[before] - middle @ across, middle @ across - heights[last])
    meets = np.flatnonzero(apart <= spacing.max() / 2)
    best = meets[np.lexsort((np.abs(offsets[rows[meets]] - middle @ along), (before - last)[meets]))[0]]
    row = rows[best]
    # The position of the value one half, between two samples.
    low, high = (
        heights[at] + step * (0.5 - inside[row, at]) / (inside[row, at + 1] - inside[row, at])
        for at in (before[best], last[best])
    )
    surplus = max(0.0, float(high - low) - long.length_mm) / 2
    edges = [(offsets[row] * along + height * across) / spacing for height in (low + surplus, high - surplus)]
    return _diameter(edges[0], edges[1], round(float(high - low) - 2 * surplus, 6))


def _diameter(one: _Points, other: _Points, length_mm: float) -> Diameter:
    start, end = sorted((float(point[0]), float(point[1])) for point in (one, other))
    return Diameter(start=start, end=end, length_mm=length_mm)
