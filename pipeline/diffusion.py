"""Which diffusion-weighted images an ADC map can be computed from. Reads headers' values, no pixels."""

from pipeline.study import Series

B_NONE = (0.0, 50.0)
"""b-values (s/mm2) that count as no diffusion weighting."""
B_WEIGHTED = (700.0, 1300.0)
"""b-values around 1000: lower ones measure perfusion too, higher ones leave the mono-exponential range."""
MAPS = frozenset({"ADC", "EADC", "FA", "EXP", "TENSOR", "COLFA"})
"""Image types that are no diffusion-weighted images but computed from them."""


def is_derivable(series: Series) -> bool:
    """Whether headers show images with b = 0 and b around 1000."""
    images = [image for one in series.instances for image in (one.frames or (one,))]
    values = [one.b_value for one in images if one.b_value is not None and not MAPS & set(one.image_type)]
    return any(within(value, B_NONE) for value in values) and any(within(value, B_WEIGHTED) for value in values)


def within(value: float, limits: tuple[float, float]) -> bool:
    """Whether a b-value lies in a closed range."""
    return limits[0] <= value <= limits[1]
