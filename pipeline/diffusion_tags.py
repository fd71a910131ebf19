"""Read the b-value and the gradient direction of diffusion-weighted images, from standard and private elements."""

from pipeline.csa_header import csa_numbers
from pipeline.header import Header
from pipeline.private_elements import PrivateElement, private_numbers, private_tags, tags_to_read
from pipeline.volume import Vector

B_VALUE, GRADIENT = 0x00189087, 0x00189089
_MOST = 1e5
"""b-values (s/mm2) are below this; GE adds 10^6 or 10^9 to those of series with several."""

# Siemens, Philips, GE, United Imaging and Fujifilm (Hitachi) document these in their conformance statements; the
# dictionary of pydicom has the first three and the last one.
_GE_B_VALUE = PrivateElement(0x0043, "GEMS_PARM_01", 0x39, "IS", "GE")
_B_VALUES = (
    PrivateElement(0x0019, "SIEMENS MR HEADER", 0x0C, "IS", "SIEMENS"),
    PrivateElement(0x2001, "Philips Imaging DD 001", 0x03, "FL", "PHILIPS"),
    PrivateElement(0x0065, "Image Private Header", 0x09, "FD", "UIH"),
    PrivateElement(0x0029, "MMCPrivate", 0x30, "FD", "HITACHI"),
    _GE_B_VALUE,
)
_WHOLE_GRADIENTS = (
    PrivateElement(0x0019, "SIEMENS MR HEADER", 0x0E, "FD", "SIEMENS"),
    PrivateElement(0x0065, "Image Private Header", 0x37, "FD", "UIH"),
)
_GRADIENT_PARTS = (
    tuple(PrivateElement(0x0019, "GEMS_ACQU_01", number, "DS", "GE") for number in (0xBB, 0xBC, 0xBD)),
    tuple(
        PrivateElement(0x2005, "Philips MR Imaging DD 001", number, "FL", "PHILIPS") for number in (0xB0, 0xB1, 0xB2)
    ),
)
"""Directions of which each component is an element of its own."""
_CSA_HEADER = PrivateElement(0x0029, "SIEMENS CSA HEADER", 0x10, "OB", "SIEMENS")
"""Older Siemens scanners write B_value and DiffusionGradientDirection nowhere else."""

_SCALE_SLOPE = PrivateElement(0x2005, "Philips MR Imaging DD 001", 0x0E, "FL", "PHILIPS")

DIFFUSION_TAGS = (
    B_VALUE,
    GRADIENT,
    *sorted(
        tags_to_read(
            (
                *(*_B_VALUES, *_WHOLE_GRADIENTS, _CSA_HEADER, _SCALE_SLOPE),
                *(part for parts in _GRADIENT_PARTS for part in parts),
            )
        )
    ),
)
"""Every tag that the functions of this module may read."""


def b_value(header: Header, manufacturer: str) -> float | None:
    """Return the b-value in s/mm2 of a header or an item; None where no plausible one is written."""
    standard = header.number(B_VALUE)
    if standard is not None and 0 <= standard < _MOST:
        return standard
    for element in _B_VALUES:
        numbers = private_numbers(header, element, manufacturer)
        value = numbers[0] if numbers else -1.0
        if element is _GE_B_VALUE and value >= _MOST:
            value %= _MOST
        if 0 <= value < _MOST:
            return value
    return next((value for value in _csa_numbers(header, "B_value", manufacturer)[:1] if 0 <= value < _MOST), None)


def gradient(header: Header, manufacturer: str) -> Vector | None:
    """Return the direction of the diffusion gradient of a header or an item, in the maker's coordinates."""
    for numbers in (
        header.numbers(GRADIENT),
        *(private_numbers(header, element, manufacturer) for element in _WHOLE_GRADIENTS),
        *(
            tuple(number for part in parts for number in private_numbers(header, part, manufacturer)[:1])
            for parts in _GRADIENT_PARTS
        ),
        _csa_numbers(header, "DiffusionGradientDirection", manufacturer),
    ):
        if len(numbers) == 3:
            return (numbers[0], numbers[1], numbers[2])
    return None


def scale_slope(header: Header, manufacturer: str) -> float | None:
    """Return the scale slope of Philips, by which the signals of several images are compared; see `derive_adc`."""
    return next((value for value in private_numbers(header, _SCALE_SLOPE, manufacturer)[:1] if value > 0), None)


def _csa_numbers(header: Header, name: str, manufacturer: str) -> tuple[float, ...]:
    for tag in private_tags(header, _CSA_HEADER, manufacturer):
        if numbers := csa_numbers(header.value(tag), name):
            return numbers
    return ()
