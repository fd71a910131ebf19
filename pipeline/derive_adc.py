"""An ADC map from diffusion-weighted images, where a scanner sent none. Knows no files."""

import numpy as np
from numpy.typing import NDArray

from pipeline.diffusion import B_NONE, B_WEIGHTED, MAPS, within
from pipeline.frames import PlacedFrame

LEAST_SIGNAL = 0.1
"""Voxels darker than this share of the unweighted image's 98th percentile are air: noise has no ADC."""


def weighted_frames(frames: tuple[PlacedFrame, ...]) -> tuple[PlacedFrame, ...]:
    """The magnitude images with b = 0 or b around 1000; empty where one of the two is missing."""
    images = [one for one in frames if one.component == "M" and not MAPS & set(one.image_type)]
    none = tuple(one for one in images if one.b_value is not None and within(one.b_value, B_NONE))
    weighted = tuple(one for one in images if one.b_value is not None and within(one.b_value, B_WEIGHTED))
    return (*none, *weighted) if none and weighted else ()


def fit_adc(
    signals: NDArray[np.float32], b_values: NDArray[np.float64], places: NDArray[np.int64]
) -> NDArray[np.float32]:
    """ADC in 10^-6 mm2/s, (slices, rows, columns), NaN in air and where the fit fails.

    `signals` is (images, rows, columns), with one b-value (s/mm2) and one slice number per image. ln S = ln S0 - b ADC,
    by least squares per voxel over all images of its slice, in which directions and repeats count alike (Le Bihan et
    al. 1986, Radiology 161:401).
    """
    shape = (int(places.max()) + 1, *signals.shape[1:])
    adc = np.full(shape, np.nan, np.float32)
    unweighted = signals[b_values <= B_NONE[1]]
    floor = LEAST_SIGNAL * float(np.percentile(unweighted, 98))
    for place in range(shape[0]):
        mine = places == place
        logs = np.log(np.maximum(signals[mine], 1e-6)).reshape(int(mine.sum()), -1)
        centred = b_values[mine] - b_values[mine].mean()
        slope = -(centred @ logs) / (centred @ centred)
        bright = signals[mine & (b_values <= B_NONE[1])].mean(axis=0).ravel() > floor
        valid = bright & (signals[mine] > 0).all(axis=0).ravel() & (slope > 0)
        adc[place] = np.where(valid, slope * 1e6, np.nan).reshape(shape[1:])
    return adc
