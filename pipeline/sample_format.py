"""Read from a header how the numbers of pixels are written, and which of them mean no value."""

from pipeline.header import Header
from pipeline.study import SampleFormat

BITS_ALLOCATED, BITS_STORED, HIGH_BIT, PIXEL_REPRESENTATION = 0x00280100, 0x00280101, 0x00280102, 0x00280103
_PADDING_VALUE, _PADDING_LIMIT, _MODALITY_LUT = 0x00280120, 0x00280121, 0x00283000
_FLOAT_PADDING, _DOUBLE_PADDING = (0x00280122, 0x00280124), (0x00280123, 0x00280125)
FORMAT_TAGS = (
    *(BITS_ALLOCATED, BITS_STORED, HIGH_BIT, PIXEL_REPRESENTATION, _PADDING_VALUE, _PADDING_LIMIT),
    *(*_FLOAT_PADDING, *_DOUBLE_PADDING, _MODALITY_LUT),
)


def sample_format(header: Header) -> SampleFormat | None:
    """Return the format of the pixels; None without pixels. What it says may be impossible, see `samples`."""
    if header.pixels is None:
        return None
    allocated = header.integer(BITS_ALLOCATED) or 0
    stored = header.integer(BITS_STORED) or allocated
    high_bit = header.integer(HIGH_BIT)
    signed = header.integer(PIXEL_REPRESENTATION) == 1
    is_float = header.pixels.is_float
    return SampleFormat(
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=stored - 1 if high_bit is None else high_bit,
        signed=signed,
        is_float=is_float,
        padding=_float_padding(header) if is_float else _padding(header, stored, signed),
        has_modality_lut=bool(header.items(_MODALITY_LUT)),
    )


def _padding(header: Header, bits_stored: int, signed: bool) -> tuple[float, float] | None:
    """Return the range of padding of integer pixels, whichever way round its ends are given.

    The two elements have the VR that the sign of the pixels asks for, US or SS; many writers take the other one. So
    their bits are read, and the sign is that of the pixels.
    """
    ends = [
        float(_with_sign(bits, bits_stored) if signed else bits)
        for tag in (_PADDING_VALUE, _PADDING_LIMIT)
        if (bits := header.bits(tag)) is not None
    ]
    return (min(ends), max(ends)) if ends else None


def _with_sign(bits: int, bits_stored: int) -> int:
    """Return 16 bits as a signed number; if pixels of `bits_stored` cannot hold it, their sign bit counts."""
    value = bits - 2**16 if 2**15 <= bits < 2**16 else bits
    half = 2 ** max(0, bits_stored - 1)
    if not -half <= value < half and 0 <= bits < 2 * half:
        return bits - 2 * half if bits >= half else bits
    return value


def _float_padding(header: Header) -> tuple[float, float] | None:
    for tags in (_FLOAT_PADDING, _DOUBLE_PADDING):
        ends = [value for tag in tags if (value := header.number(tag)) is not None]
        if ends:
            return min(ends), max(ends)
    return None
