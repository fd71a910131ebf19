"""Turn the cells of decoded pixels into stored values, and hold them against what their header says."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.study import SampleFormat

Samples = NDArray[Any]
_FEW_PIXELS = 1024
"""Fewer tell nothing about a byte order."""
_FEW_KINDS = 8
_NOISY = 0.2
"""Relative roughness of images in the wrong byte order: 0.15 to 0.6 in 250 images of many scanners."""


def impossible_format(samples: SampleFormat, whole_cells: bool) -> str:
    """Return why values cannot be told from their cells; "" if they can.

    `whole_cells` says whether all bits of a cell come as they were written: uncompressed, or by RLE. Other compressions
    carry values, not cells, so that a value that stands high in its cell has no meaning for them.
    """
    allocated, stored, high = samples.bits_allocated, samples.bits_stored, samples.high_bit
    if samples.has_modality_lut:
        return "its values stand in a Modality LUT (0028,3000), which is not applied here"
    if samples.is_float:
        return ""
    if not 0 < stored <= allocated or not stored - 1 <= high < allocated:
        return f"BitsAllocated {allocated}, BitsStored {stored} and HighBit {high} contradict each other"
    if high != stored - 1 and not whole_cells:
        return f"HighBit {high} with BitsStored {stored} has no meaning in compressed pixels"
    return ""


def stored_values(cells: Samples, samples: SampleFormat) -> Samples:
    """Return the values of cells, without the bits that are no part of them (PS3.5 8.1.1): overlays of old scanners.

    The sign bit of signed values is the one at HighBit.
    """
    native = cells.astype(cells.dtype.newbyteorder("="), copy=False)
    if samples.is_float or samples.bits_stored == samples.bits_allocated:
        return native
    shifted: Samples = (native << (samples.bits_allocated - 1 - samples.high_bit)) >> (
        samples.bits_allocated - samples.bits_stored
    )
    return shifted


def bits_left_out(cells: Samples, values: Samples, samples: SampleFormat) -> bool:
    """Return whether the bits above BitsStored seem to be part of the values, so that the header is wrong.

    With them, an image is smoother than without, where values wrap round; overlays are the other way round.
    """
    if samples.is_float or samples.high_bit != samples.bits_stored - 1 or np.array_equal(cells, values):
        return False
    return _roughness(values) > _roughness(cells)


def sign_contradicted(values: Samples, missing: NDArray[np.bool_], samples: SampleFormat) -> bool:
    """Return whether values of whole cells seem to have the other sign than PixelRepresentation says.

    Read so, they make a far smoother image: small negative numbers are not next to the largest ones. Padding
    (`missing`) does not count, nor does a value or two that stand for nothing.
    """
    if values.dtype.kind not in "iu" or samples.bits_stored != samples.bits_allocated:
        return False
    other = values.view(("i" if values.dtype.kind == "u" else "u") + str(values.dtype.itemsize))
    turned = ((values if values.dtype.kind == "i" else other) < 0) & ~missing
    if not turned.any() or np.unique(values[turned]).size < _FEW_KINDS:
        return False
    known = [np.where(missing, 0, each) for each in (values, other)]
    return 2 * _roughness(known[1]) < _roughness(known[0])


def bytes_swapped(cells: Samples) -> bool:
    """Return whether cells of 16 bits seem to be in the other byte order: swapped, they make a far smoother image."""
    if cells.dtype.kind not in "iu" or cells.dtype.itemsize != 2 or cells.size < _FEW_PIXELS:
        return False
    return max(_NOISY, 2 * _relative_roughness(cells.byteswap())) < _relative_roughness(cells)


def padded(cells: Samples, values: Samples, samples: SampleFormat) -> NDArray[np.bool_]:
    """Return where the samples are no value: padding, and in float pixels what is not finite.

    A padding value that BitsStored cannot hold is looked for in whole cells.
    """
    missing = np.zeros(values.shape, np.bool_) if values.dtype.kind in "iu" else ~np.isfinite(values)
    if samples.padding is None:
        return missing
    low, high = samples.padding
    inside = (values >= low) & (values <= high)
    if not samples.is_float and not _holds(samples, low, high):
        inside = (cells >= low) & (cells <= high)
    return missing | inside


def _holds(samples: SampleFormat, low: float, high: float) -> bool:
    half = 2 ** (samples.bits_stored - 1)
    first = -half if samples.signed else 0
    return low < first + 2 * half and high >= first


def _roughness(image: Samples) -> float:
    """Return the sum of the differences of neighbouring rows and columns."""
    values = image.astype(np.float64)
    return float(sum(np.abs(np.diff(values, axis=axis)).sum() for axis in range(values.ndim)))


def _relative_roughness(image: Samples) -> float:
    """Return the mean difference of neighbouring pixels in standard deviations: 1.1 in noise, little in an image."""
    values = image.astype(np.float64)
    spread = float(values.std()) if values.size else 0.0
    return _roughness(image) / (2 * values.size) / spread if spread else 0.0
