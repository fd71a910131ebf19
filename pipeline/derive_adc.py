"""Compute an ADC map from diffusion-weighted images, for studies in which the scanner sent none."""

import numpy as np
from numpy.typing import NDArray

from pipeline.diffusion import B_UNWEIGHTED, B_WEIGHTED, MAPS, within
from pipeline.frames import PlacedFrame

MIN_SIGNAL = 0.1
"""Voxels darker than this share of the unweighted image's 98th percentile are air: noise has no ADC."""


def weighted_frames(frames: tuple[PlacedFrame, ...]) -> tuple[PlacedFrame, ...]:
    """Return the magnitude images with b = 0 or b around 1000; nothing if one of the two is missing."""
    images = [one for one in frames if one.component == "M" and not MAPS & set(one.image_type)]
    none = tuple(one for one in images if one.b_value is not None and within(one.b_value, B_UNWEIGHTED))
    weighted = tuple(one for one in images if one.b_value is not None and within(one.b_value, B_WEIGHTED))
    return (*none, *weighted) if none and weighted else ()


def fit_adc(
    signals: NDArray[np.float32], b_values: NDArray[np.float64], places: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Fit ADC in 10^-6 mm2/s, (slices, rows, columns); NaN in air and for failed fits.

    `signals` is (images, rows, columns); `b_values` (s/mm2) and `places` (slice numbers) have one value per image. The
    model ln S = ln S0 - b ADC is fitted by least squares per voxel over all images of its slice, with equal weights of
    directions and repeats (Le Bihan et al. 1986, Radiology 161:401).
    """
    shape = (int(places.max()) + 1, *signals.shape[1:])
    adc = np.full(shape, np.nan, np.float32)
    unweighted = signals[b_values <= B_UNWEIGHTED[1]]
    floor = MIN_SIGNAL * float(np.nanpercentile(unweighted, 98))  # padding is NaN
    for place in range(shape[0]):
        here = places == place
        logs = np.log(np.maximum(signals[here], 1e-6)).reshape(int(here.sum()), -1)
        centred = b_values[here] - b_values[here].mean()
        slope = -(centred @ logs) / (centred @ centred)
        bright = signals[here & (b_values <= B_UNWEIGHTED[1])].mean(axis=0).ravel() > floor
        valid = bright & (signals[here] > 0).all(axis=0).ravel() & (slope > 0)
        adc[place] = np.where(valid, slope * 1e6, np.nan).reshape(shape[1:])
    return adc
