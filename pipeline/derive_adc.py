"""Compute an ADC map from diffusion-weighted images, for studies in which the scanner sent none."""

import numpy as np
from numpy.typing import NDArray

from pipeline.diffusion import B_UNWEIGHTED, B_WEIGHTED, MAPS, within
from pipeline.errors import UnitsUnknown
from pipeline.frames import PlacedFrame

MIN_SIGNAL = 0.1
"""Voxels darker than this share of the unweighted image's 98th percentile are air: noise has no ADC."""


def weighted_frames(frames: tuple[PlacedFrame, ...]) -> tuple[PlacedFrame, ...]:
    """Return the magnitude images with b = 0 or b around 1000; nothing if one of the two is missing."""
    images = [one for one in frames if one.component == "M" and not MAPS & set(one.image_type)]
    none = tuple(one for one in images if one.b_value is not None and within(one.b_value, B_UNWEIGHTED))
    weighted = tuple(one for one in images if one.b_value is not None and within(one.b_value, B_WEIGHTED))
    return (*none, *weighted) if none and weighted else ()


def comparable_signals(
    uid: str, signals: NDArray[np.float32], frames: tuple[PlacedFrame, ...], manufacturer: str
) -> NDArray[np.float32]:
    """Return rescaled images (images, rows, columns) on one scale, so that their ratio is that of the signals.

    Philips scales each image to its range of numbers. Only the value after rescale, divided by RescaleSlope and by the
    scale slope (2005,xx0E), is proportional to the signal in all images (Chenevert et al. 2014, Transl Oncol 7:65).
    Raises UnitsUnknown where these slopes differ and one of them is missing.
    """
    slopes = [frame.scale_slope for frame in frames]
    known = np.array([slope for slope in slopes if slope is not None])
    if len(known) == len(frames):
        scales = known * np.array([frame.rescale_slope for frame in frames])
        compared: NDArray[np.float32] = (signals / scales[:, None, None]).astype(np.float32)
        return compared
    differ = len({f"{frame.rescale_slope:.6g}" for frame in frames}) > 1 or len(known) > 0
    if differ and manufacturer.strip().upper().startswith("PHILIPS"):
        raise UnitsUnknown(
            f"Series {uid}: its diffusion images are scaled differently, and Philips' scale slope (2005,xx0E) is "
            "missing, so no ADC can be computed. Send the ADC map, or the images with their private elements."
        )
    return signals


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
