"""Tell which diffusion-weighted images an ADC map can be computed from, by their headers."""

from collections.abc import Sequence
from dataclasses import replace

from pipeline.study import Instance, Series

B_UNWEIGHTED = (0.0, 50.0)
"""Range of b-values (s/mm2) that count as no diffusion weighting."""
B_WEIGHTED = (700.0, 1300.0)
"""Range of b-values around 1000: lower ones include perfusion, higher ones are not mono-exponential."""
MAPS = frozenset({"ADC", "EADC", "FA", "EXP", "TENSOR", "COLFA"})
"""Image types of maps that were computed from diffusion-weighted images."""


_LEAVE_OUT_ZERO = ("TOSHIBA", "CANON")
"""Makers whose scanners write the b-value only of images with diffusion weighting (dcm2niix, Canon/README.md)."""


def with_unweighted(images: Sequence[Instance], manufacturer: str) -> tuple[Instance, ...]:
    """Return the images of a series, with b = 0 where its maker leaves that out.

    An image without b-value is unweighted if others of the series have one, and it has their echo time and is no map.
    """
    echo_times = {image.echo_time_ms for image in images if image.b_value}
    if not echo_times or not manufacturer.strip().upper().startswith(_LEAVE_OUT_ZERO):
        return tuple(images)
    return tuple(
        replace(image, b_value=0.0)
        if image.b_value is None and image.echo_time_ms in echo_times and not MAPS & set(image.image_type)
        else image
        for image in images
    )


def is_derivable(series: Series) -> bool:
    """Return whether a series has images with b = 0 and with b around 1000."""
    images = [image for one in series.instances for image in (one.frames or (one,))]
    values = [one.b_value for one in images if one.b_value is not None and not MAPS & set(one.image_type)]
    return any(within(value, B_UNWEIGHTED) for value in values) and any(within(value, B_WEIGHTED) for value in values)


def within(value: float, limits: tuple[float, float]) -> bool:
    """Return whether a b-value lies in a closed range."""
    return limits[0] <= value <= limits[1]
