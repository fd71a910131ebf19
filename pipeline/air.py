"""Give voxels without a value inside of a series the level of air, for steps that look at a whole image."""

from dataclasses import replace

import numpy as np

from pipeline.volume import Volume

_DARKEST = 0.1
"""Percentile of an image's values that counts as its darkest, so that a few outliers do not."""


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
