"""Read and apply real-world value maps of ADC (PS3.3 C.7.6.16.2.11)."""

import numpy as np
from numpy.typing import NDArray

from pipeline.adc_units import coded_factor
from pipeline.header import Header
from pipeline.study import RealWorldScale

REAL_WORLD_MAPPING = 0x00409096
_FIRST, _LAST, _DOUBLE_FIRST, _DOUBLE_LAST, _TABLE = 0x00409216, 0x00409211, 0x00409214, 0x00409213, 0x00409212
_INTERCEPT, _SLOPE, _UNITS, _CODE_VALUE, _LONG_CODE_VALUE = 0x00409224, 0x00409225, 0x004008EA, 0x00080100, 0x00080119


def real_world_scale(header: Header, signed: bool) -> RealWorldScale | None:
    """Return the item of the RealWorldValueMappingSequence that gives a diffusion; without one, the first item.

    Of several the one that maps most values counts, a straight line before a table. `signed` says whether the pixels
    are: the ends of the mapped range are written with the VR of the other sign by some. None without an item.
    """
    scales = [scale for item in header.items(REAL_WORLD_MAPPING) if (scale := _scale(item, signed)) is not None]
    return max(scales, key=_rank, default=None)


def apply_scale(stored: NDArray[np.float32], scale: RealWorldScale) -> NDArray[np.float32]:
    """Map stored values by a straight line; those outside of the mapped range have no value and become NaN."""
    values = stored * np.float32(scale.slope) + np.float32(scale.intercept)
    if scale.mapped is not None:
        nearest = np.rint(stored)  # stored values were recovered from rescaled ones
        values[(nearest < scale.mapped[0]) | (nearest > scale.mapped[1])] = np.nan
    return values


def _rank(scale: RealWorldScale) -> tuple[bool, bool, float]:
    width = np.inf if scale.mapped is None else scale.mapped[1] - scale.mapped[0]
    return coded_factor(scale.unit) is not None, not scale.is_table, float(width)


def _scale(item: Header, signed: bool) -> RealWorldScale | None:
    slope, intercept = item.number(_SLOPE), item.number(_INTERCEPT)
    codes = item.items(_UNITS)
    unit = next((text for one in codes for tag in (_CODE_VALUE, _LONG_CODE_VALUE) if (text := one.text(tag))), "")
    if slope and intercept is not None:
        return RealWorldScale(slope, intercept, unit, _mapped(item, signed))
    return RealWorldScale(1.0, 0.0, unit, is_table=True) if item.numbers(_TABLE) else None


def _mapped(item: Header, signed: bool) -> tuple[float, float] | None:
    """Return the range of stored values that are mapped; None without one, and for one that is no range."""
    ends = [item.number(tag) for tag in (_DOUBLE_FIRST, _DOUBLE_LAST)]
    if None in ends:
        ends = []
        for tag in (_FIRST, _LAST):
            bits = item.bits(tag)
            ends.append(None if bits is None else float(bits - 2**16 if signed and 2**15 <= bits < 2**16 else bits))
    first, last = ends
    return (first, last) if first is not None and last is not None and first < last else None
