"""Find the factor that brings ADC maps of any vendor to 10^-6 mm2/s."""

import numpy as np
from numpy.typing import NDArray

_CODED = {
    "um2/s": 1.0,
    "10-6mm2/s": 1.0,
    "1e-6mm2/s": 1.0,
    "10-12m2/s": 1.0,
    "10-3mm2/s": 1e3,
    "1e-3mm2/s": 1e3,
    "um2/ms": 1e3,
    "10-9m2/s": 1e3,
    "mm2/s": 1e6,
    "m2/s": 1e12,
}
"""Factors to 10^-6 mm2/s of units of diffusion, without the signs in which their spellings differ."""

_PLAUSIBLE = ((0.3, 3.0, 1e3), (300.0, 3000.0, 1.0), (3e-4, 3e-3, 1e6))
"""(lowest, highest, factor): plausible medians of a brain's ADC in 10^-3, 10^-6 and 1 mm2/s.

They lie between white matter and free water at body temperature.
"""


def coded_factor(unit: str) -> float | None:
    """Return the factor to 10^-6 mm2/s of a unit of diffusion, UCUM or as vendors write it; None for another unit."""
    spelling = unit.lower().replace("²", "2").replace("µ", "u").replace("μ", "u")
    return _CODED.get("".join(char for char in spelling if char not in " .*^()[]").removeprefix("x"))


def typical_value(values: NDArray[np.float32]) -> float:
    """Return the median of the positive values in the middle half of a (slices, rows, columns) map; NaN without any.

    The middle of the field is brain; the border is air, and some vendors leave its noise in their maps.
    """
    middle = values[tuple(slice(size // 4, size - size // 4) for size in values.shape)]
    inside = middle[np.isfinite(middle) & (middle > 0)]
    return float(np.median(inside)) if inside.size else float("nan")


def unit_factor(values: NDArray[np.float32]) -> float | None:
    """Return the factor that brings a map to 10^-6 mm2/s, judged by its typical value; None if no unit fits."""
    typical = typical_value(values)
    for low, high, factor in _PLAUSIBLE:
        if low <= typical <= high:
            return factor
    return None
