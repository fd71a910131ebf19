"""Draw the contours of overlapping labels so that none hides another."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

LINE_PX = 2
"""Width of a contour in pixels of the picture; it lies inside the label."""
_DASH_PX = 4


def contour_map(masks: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the number of the label whose contour covers each pixel of a picture, from 1; 0 for none.

    `masks` is (labels, rows, columns); `size` is the picture's (width, height), the result (height, width). Where
    contours of several labels coincide, they alternate in short dashes. No voxel is lost, even where the picture is
    smaller than the slice.
    """
    edges = [_edge(_enlarged(mask, size)) for mask in masks]
    count: NDArray[np.uint8] = np.add.reduce(edges, dtype=np.uint8)
    dash = _dashes(size) % np.maximum(count, 1)
    drawn: NDArray[np.uint8] = np.zeros_like(count)
    before: NDArray[np.uint8] = np.zeros_like(count)
    for number, edge in enumerate(edges, 1):
        drawn[edge & (before == dash)] = number
        before += edge
    return drawn


def _enlarged(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    # PIL's box filter repeats voxels when it enlarges and averages them when it shrinks; any part of a voxel counts.
    picture = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)
    return np.asarray(picture) > 0


def _edge(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    core = ndimage.minimum_filter(inside.astype(np.uint8), size=2 * LINE_PX + 1, mode="constant") > 0
    return np.asarray(inside & ~core)


def _dashes(size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return numbers 0 to 6 in small squares, shifted by three in each row of squares.

    Lines in all eight directions cross all seven numbers; on a checkerboard a diagonal line would meet only one.
    """
    columns, rows = (np.arange(length) // _DASH_PX % 7 for length in size)
    dashes: NDArray[np.uint8] = ((columns[None, :] + 3 * rows[:, None]) % 7).astype(np.uint8)
    return dashes
