"""Know air in weighted images: it is dark, and what has no value inside of a series is shown as it."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import AirBright
from pipeline.volume import Volume

_DARKEST = 0.1
"""Percentile of an image's values that counts as its darkest, so that a few outliers do not."""
_MARGIN = 0.04
"""Width of the border of an image, as a share of its rows and columns: air, for the most part."""
_BRIGHT, _BRIGHT_INVERTED, _MOST = 2.0, 1.02, 90.0
"""Air is not brighter than the typical value in the middle of the head by this factor, and than this percentile of it;
fat at a narrow border may be bright, too, but not so bright."""


def check_air(uid: str, pixels: NDArray[np.float32], inverted: bool) -> None:
    """Check that the border of a weighted image, (slices, rows, columns), is not brighter than its middle.

    It is where air holds a value for "nothing" that no header declares, and in images whose dark is the highest value.
    `inverted` says whether the headers announce the latter (MONOCHROME1); many write it without meaning it. Raises
    AirBright.
    """
    slices, rows, columns = pixels.shape
    slab = pixels[slices // 4 : slices - slices // 4]
    middle = slab[:, rows // 4 : rows - rows // 4, columns // 4 : columns - columns // 4]
    high, wide = max(1, round(_MARGIN * rows)), max(1, round(_MARGIN * columns))
    border = np.concatenate(
        [part.ravel() for part in (slab[:, :high], slab[:, -high:], slab[:, :, :wide], slab[:, :, -wide:])]
    )
    known, inside = border[np.isfinite(border)], middle[np.isfinite(middle)]
    if known.size < border.size / 2 or not inside.size:
        return
    around, typical, bright = np.median(known), np.median(inside), np.percentile(inside, _MOST)
    if around > bright and around > (_BRIGHT_INVERTED if inverted else _BRIGHT) * typical:
        why = "they are inverted (MONOCHROME1)" if inverted else "it holds padding that no header declares"
        raise AirBright(
            f"Series {uid}: the air around the head is brighter than the head, as where {why}. Export it anew, with "
            "air as the lowest values, or with its pixel padding value (0028,0120)."
        )


def with_air(volume: Volume) -> Volume:
    """Return a weighted image in which padding is as dark as air.

    Padding surrounds what was acquired. A network and a registration know air as dark; as missing it would get the
    median of the head in `normalise`. Outside of the series, voxels stay missing. Air is 0 in images of a magnitude;
    where values are negative, it is their darkest.
    """
    missing = np.isnan(volume.pixels)
    if not missing.any() or missing.all():
        return volume
    known = volume.pixels[~missing]
    level = min(0.0, float(np.percentile(known, _DARKEST)))
    return replace(volume, pixels=np.where(missing, np.float32(level), volume.pixels))
