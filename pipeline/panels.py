"""Choose slices of the reference series for pictures of the result, and sample FLAIR and ADC on them."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from models.labels import Role
from pipeline.alignment import RoleAlignment
from pipeline.boxes import Box
from pipeline.reference import reference_of
from pipeline.resample import resample
from pipeline.result import Panels
from pipeline.volume import IDENTITY, Geometry, Matrix, Volume

_SHOWN = (Role.T1CE, Role.FLAIR, Role.ADC)
_WITHOUT_LABELS = 5
"""Slices for a study without labels: enough to recognise the study and to see how its series are aligned."""


def panels(
    volumes: Mapping[Role, Volume],
    masks: NDArray[np.bool_],
    alignments: tuple[RoleAlignment, ...],
    most: int = 16,
) -> Panels:
    """Select at most `most` slices of the reference series, ascending, with FLAIR and ADC resampled to them.

    `masks` is (labels, slices, rows, columns) on the reference: T1CE where there is one. The slices are spread over
    those with any label and include the one with the largest area of each label. Without labels they are a few from the
    middle. Each series is moved by its alignment; NaN are points outside of it. Raises ValueError if `most` is less
    than the number of labels.
    """
    if most < len(masks):
        raise ValueError(f"{most} slices have no room for the largest area of each of {len(masks)} labels")
    reference = reference_of(volumes)
    fixed = volumes[reference]
    indices = _choose_slices(masks, most)
    roles = tuple(role for role in dict.fromkeys((reference, *_SHOWN)) if role in volumes)
    to_series = {alignment.role: alignment.matrix for alignment in alignments}
    pixels = np.empty((len(roles), len(indices), *fixed.geometry.shape[1:]), np.float32)
    for role, panel in zip(roles, pixels, strict=True):
        if role is reference:
            panel[:] = fixed.pixels[list(indices)]
            continue
        for number, index in enumerate(indices):
            panel[number] = _on_slice(volumes[role], _slice(fixed.geometry, index), to_series.get(role, IDENTITY))
    return Panels(indices, roles, pixels)


def _choose_slices(masks: NDArray[np.bool_], most: int) -> tuple[int, ...]:
    areas = np.count_nonzero(masks, axis=(2, 3))  # (labels, slices)
    filled = np.flatnonzero(areas.any(axis=0))
    if not filled.size:
        last = masks.shape[1] - 1
        return tuple(int(index) for index in np.unique(np.linspace(0.3 * last, 0.7 * last, _WITHOUT_LABELS).round()))
    largest = {int(row.argmax()) for row in areas if row.any()}
    others = [int(index) for index in filled if index not in largest]
    places = np.linspace(0, len(others) - 1, min(len(others), most - len(largest))).round()
    return tuple(sorted(largest | {others[int(place)] for place in places}))


def _slice(geometry: Geometry, index: int) -> Geometry:
    _, rows, columns = geometry.shape
    return geometry.cropped((slice(index, index + 1), slice(0, rows), slice(0, columns)))


def _on_slice(volume: Volume, target: Geometry, to_series: Matrix) -> NDArray[np.float32]:
    """Sample a series on one slice, (rows, columns), using only the part of the series around the slice."""
    box = _around(volume.geometry, target, to_series)
    if box is None:
        return np.full(target.shape[1:], np.nan, np.float32)
    part = torch.from_numpy(np.ascontiguousarray(volume.pixels[box]))
    sampled: NDArray[np.float32] = resample(part[None], volume.geometry.cropped(box), target, to_series)[0, 0].numpy()
    return sampled


def _around(source: Geometry, target: Geometry, target_to_source: Matrix) -> Box | None:
    """Return the part of `source` that sampling one slice depends on; None if the slice lies outside."""
    _, rows, columns = target.shape
    corners = np.array([[0, row, column, 1.0] for row in (0, rows - 1) for column in (0, columns - 1)])
    index = (np.linalg.inv(source.affine) @ np.array(target_to_source) @ target.affine @ corners.T)[:3]
    # Interpolation needs one voxel, the smoothing before it 2.5 sigma of a FWHM up to the edge of the target's voxels.
    edge = target.voxel_volume_mm3 ** (1 / 3)
    margin = 2 + np.ceil(1.1 * edge / np.array(source.spacing_mm)).astype(int)
    low = np.clip(np.floor(index.min(axis=1)).astype(int) - margin, 0, source.shape)
    high = np.clip(np.ceil(index.max(axis=1)).astype(int) + 1 + margin, 0, source.shape)
    # The margin has at least two voxels, so a thinner part is all margin; torch would stretch a single plane.
    if (high - low < 2).any():
        return None
    slices, rows_, columns_ = (slice(int(first), int(last)) for first, last in zip(low, high, strict=True))
    return slices, rows_, columns_
