"""Draw labels as contours onto a picture so that none hides another. Knows no DICOM and no text."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

LINE_PX = 2
"""Width of a contour in pixels of the picture; it lies inside of the label."""
_DASH_PX = 4


def contour_map(masks: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Which contour runs through each pixel of a picture: 0 for none, else the label's place in `masks`, from 1.

    `masks` is (labels, rows, columns); `size` is the picture's (width, height), the result (height, width). Where
    contours of several labels run together they take turns in short dashes. A voxel is never lost, even where the
    picture is smaller than the slice.
    """
    edges = [_edge(_enlarged(mask, size)) for mask in masks]
    count: NDArray[np.uint8] = np.add.reduce(edges, dtype=np.uint8)
    turn = _turns(size) % np.maximum(count, 1)
    drawn: NDArray[np.uint8] = np.zeros_like(count)
    before: NDArray[np.uint8] = np.zeros_like(count)
    for number, edge in enumerate(edges, 1):
        drawn[edge & (before == turn)] = number
        before += edge
    return drawn


def _enlarged(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    # PIL's box filter repeats voxels where it enlarges and averages where it shrinks: any part of a voxel counts.
    picture = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)
    return np.asarray(picture) > 0


def _edge(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    core = ndimage.minimum_filter(inside.astype(np.uint8), size=2 * LINE_PX + 1, mode="constant") > 0
    return np.asarray(inside & ~core)


def _turns(size: tuple[int, int]) -> NDArray[np.uint8]:
    """Numbers 0 to 6 in small squares, each row three places further: lines in all eight directions cross all seven.

    A checkerboard would give a diagonal line to one label alone.
    """
    columns, rows = (np.arange(length) // _DASH_PX % 7 for length in size)
    turns: NDArray[np.uint8] = ((columns[None, :] + 3 * rows[:, None]) % 7).astype(np.uint8)
    return turns
