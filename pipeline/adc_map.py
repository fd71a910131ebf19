"""Bring the values of an ADC map to 10^-6 mm2/s, by what its headers say and by what a brain can have."""

import numpy as np
from numpy.typing import NDArray

from models.labels import Role
from pipeline.adc_units import coded_factor, typical_value, unit_factor
from pipeline.errors import EXCLUDE, UnitsUnknown
from pipeline.frames import PlacedFrame
from pipeline.real_world import apply_scale
from pipeline.remarks import Remark, RemarkKind
from pipeline.study import RealWorldScale

_LEAST_MAPPED = 0.5
"""Smallest share of the values in the middle of the field that a real-world value map must cover."""

Pixels = NDArray[np.float32]


def in_adc_units(uid: str, frames: tuple[PlacedFrame, ...], pixels: Pixels) -> tuple[Pixels, str, tuple[Remark, ...]]:
    """Return a rescaled map in 10^-6 mm2/s with NaN for failed fits, a note on the factor, and remarks.

    `pixels` is (slices, rows, columns), one slice for each of `frames`. A real-world value map with a unit of diffusion
    is taken, and refused if the brain's median contradicts it; without one the median decides. Raises UnitsUnknown.
    """
    scales = _coded_scales(uid, frames)
    if scales:
        rescaled = pixels
        pixels = np.stack([_mapped(*one) for one in zip(rescaled, frames, scales, strict=True)])
        _check_range(uid, rescaled, pixels)
        units = " and ".join(sorted({scale.unit for scale in scales}))
        check_plausible(uid, pixels, f"its real-world value map says {units}, by which")
        factor = coded_factor(scales[0].unit)
        return _without_failures(pixels), f"ADC in {units} by its real-world value map, times {factor:g}" + _TO, ()
    factor = unit_factor(pixels)
    if factor is None:
        raise UnitsUnknown(
            f"Series {uid}: the median {typical_value(pixels):.4g} of its values fits no known unit of ADC. "
            f"Send the ADC map with its units coded. {EXCLUDE}"
        )
    named = {named for frame in frames if (named := coded_factor(frame.rescale_type)) is not None}
    remarks: tuple[Remark, ...] = ()
    if named - {factor}:
        text = "The rescale type of the ADC map names a unit that its values contradict; the values were believed."
        remarks = (Remark(RemarkKind.UNITS, text, (Role.ADC,)),)
    return _without_failures(pixels * np.float32(factor)), f"ADC times {factor:g}, judged by its median" + _TO, remarks


_TO = " to 10^-6 mm2/s"


def check_plausible(uid: str, pixels: Pixels, why: str) -> None:
    """Raise UnitsUnknown if the median of a map in 10^-6 mm2/s is none of a brain; `why` begins the sentence."""
    if unit_factor(pixels) != 1.0:
        raise UnitsUnknown(
            f"Series {uid}: {why} the median of the ADC is {typical_value(pixels):.4g} x 10^-6 mm2/s, which no brain "
            f"has. {EXCLUDE}"
        )


def _coded_scales(uid: str, frames: tuple[PlacedFrame, ...]) -> tuple[RealWorldScale, ...]:
    """Return a scale in a unit of diffusion for each frame; nothing if none has one. Raises UnitsUnknown."""
    own = [frame.real_world for frame in frames]
    coded = {scale for scale in own if scale is not None and coded_factor(scale.unit) is not None}
    if not coded:
        return ()
    if any(scale.is_table for scale in coded):
        raise UnitsUnknown(
            f"Series {uid}: its real-world value map is a table, which is not read. Send it with slope and intercept."
        )
    if set(own) - coded - {None} or (None in own and len(coded) > 1):
        raise UnitsUnknown(
            f"Series {uid}: only some of its images say their unit of ADC. Send the ADC map with its units coded in "
            "all images or in none."
        )
    common = next(iter(coded))
    return tuple(scale or common for scale in own)


def _mapped(pixels: Pixels, frame: PlacedFrame, scale: RealWorldScale) -> Pixels:
    stored = (pixels - np.float32(frame.rescale_intercept)) / np.float32(frame.rescale_slope)
    return apply_scale(stored, scale) * np.float32(coded_factor(scale.unit) or np.nan)


def _check_range(uid: str, rescaled: Pixels, mapped: Pixels) -> None:
    """Raise UnitsUnknown if the mapped range leaves most of the values in the middle of the field out."""
    rows, columns = mapped.shape[1] // 4, mapped.shape[2] // 4
    middle = np.s_[:, rows : mapped.shape[1] - rows, columns : mapped.shape[2] - columns]
    present = rescaled[middle] > 0
    if np.isfinite(mapped[middle][present]).sum() < _LEAST_MAPPED * present.sum():
        raise UnitsUnknown(
            f"Series {uid}: its real-world value map leaves out most of its values (0040,9211 and 0040,9216). {EXCLUDE}"
        )


def _without_failures(pixels: Pixels) -> Pixels:
    """Return a map with NaN where it is not positive: failed fits, no tissue."""
    return np.where(pixels > 0, pixels, np.float32(np.nan))
