"""Draw the demonstration's result: T1CE, FLAIR and ADC through the tumour with the contours of the segments."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import binary_erosion

from models.labels import PAPER_LABELS, Role
from pipeline.resample import resample
from pipeline.volume import Geometry, Volume

_ENLARGE = 3
_ROLES = (Role.T1CE, Role.FLAIR, Role.ADC)
_T = TypeVar("_T", np.float32, np.bool_)
Picture = NDArray[np.uint8]


def draw_overlay(volumes: Mapping[Role, Volume], masks: NDArray[np.bool_], path: Path, title: str) -> None:
    """Write a PNG of three rows (T1CE, FLAIR, ADC) and three columns (axial, coronal, sagittal; radiological).

    `masks` is (labels, slices, rows, columns) on the T1CE volume's grid. The planes go through the median position of
    the voxels of all labels. The patient's right is at the left of axial and coronal planes, the nose at the left of
    sagittal ones.
    """
    grid = _millimetre_grid(volumes[Role.T1CE].geometry)
    on_grid = _resampled(masks.astype(np.float32), volumes[Role.T1CE].geometry, grid) >= 0.5
    middle = _middle(np.logical_or.reduce(on_grid))
    rows = []
    for role in _ROLES:
        voxels = _resampled(volumes[role].pixels[None], volumes[role].geometry, grid)[0]
        low, high = np.nanpercentile(voxels, (1, 99.5))
        grey = np.nan_to_num((voxels - low) / max(high - low, 1e-6), nan=0.0).clip(0, 1)
        panels = [
            _panel(_plane(grey, axis, middle), [_plane(mask, axis, middle) for mask in on_grid]) for axis in range(3)
        ]
        height = max(panel.shape[0] for panel in panels)
        rows.append(np.hstack([_padded(panel, height) for panel in panels]))
    picture = Image.fromarray(np.vstack(rows))
    _caption(picture, title)
    picture.save(path)


def _millimetre_grid(geometry: Geometry) -> Geometry:
    corners = np.array([[s, r, c, 1.0] for s in (0, 1) for r in (0, 1) for c in (0, 1)])
    corners[:, :3] *= np.array(geometry.shape) - 1
    world = (geometry.affine @ corners.T)[:3]
    x, y, z = (int(size) for size in np.ceil(np.ptp(world, axis=1)) + 1)
    return Geometry.axial((z, y, x), (1, 1, 1), geometry.centre_mm, geometry.frame_of_reference_uid)


def _resampled(voxels: NDArray[np.float32], source: Geometry, grid: Geometry) -> NDArray[np.float32]:
    found: NDArray[np.float32] = resample(torch.from_numpy(voxels), source, grid).numpy()
    return found


def _middle(mask: NDArray[np.bool_]) -> tuple[int, int, int]:
    if not mask.any():
        slices, rows, columns = (size // 2 for size in mask.shape)
        return slices, rows, columns
    slices, rows, columns = (int(np.median(index)) for index in np.nonzero(mask))
    return slices, rows, columns


def _plane(voxels: NDArray[_T], axis: int, middle: tuple[int, int, int]) -> NDArray[_T]:
    plane: NDArray[_T] = np.moveaxis(voxels, axis, 0)[middle[axis]]
    return plane if axis == 0 else plane[::-1]  # feet down


def _panel(grey: NDArray[np.float32], masks: list[NDArray[np.bool_]]) -> Picture:
    large = np.repeat(np.repeat(grey, _ENLARGE, 0), _ENLARGE, 1)
    picture = np.repeat((large * 255).astype(np.uint8)[..., None], 3, axis=2)
    for label, mask in zip(PAPER_LABELS, masks, strict=True):
        inside = np.repeat(np.repeat(mask, _ENLARGE, 0), _ENLARGE, 1)
        picture[inside & ~binary_erosion(inside, border_value=1)] = label.colour_rgb
    return picture


def _padded(panel: Picture, height: int) -> Picture:
    return np.pad(panel, ((0, height - panel.shape[0]), (0, 0), (0, 0)))


def _caption(picture: Image.Image, title: str) -> None:
    draw = ImageDraw.Draw(picture)
    draw.text((8, 6), title, fill=(255, 255, 255), font_size=18)
    for number, label in enumerate(PAPER_LABELS):
        draw.text((8, 30 + 22 * number), label.title, fill=label.colour_rgb, font_size=18)
