"""Declare the settings of the registration to T1CE, without importing what registers."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class AlignSettings:
    """Settings of the registration to T1CE, and of the evidence that it needs."""

    enabled: bool = True
    """False uses the scanner's own coordinates for every series, and says so."""
    engine: Literal["torch", "simpleitk"] = "torch"
    """What searches the motion; where its result is not believed, the other one is asked, too."""
    max_rotation_deg: float = 45.0
    """With a larger rotation about an axis of the patient a registration is not believed."""
    max_translation_mm: float = 120.0
    """The same for the shift of the head's centre, within one frame of reference."""
    min_gain: float = 0.02
    """Mutual information (nats) that a registration must gain to be kept within one frame of reference. Where nothing
    moved, the smoothing by interpolation alone gains about half of it."""
    min_overlap: float = 0.85
    """Share of the smaller of two heads, within the common field of view, that must lie in the other: for a
    registration, and for scanner's coordinates, to be believed."""
    min_distinctness: float = 0.075
    """Share of the mutual information that a shift by 4 mm must lose on average, for a large motion, or one between two
    frames of reference, to be believed. One head loses 0.1 and more, two people's less than 0.06."""
    resolution_mm: float = 3.0
    """Edge of the voxels on which mutual information is measured."""

    def __post_init__(self) -> None:
        if not 1 <= self.resolution_mm <= 10:
            raise ValueError("resolution_mm must lie between 1 and 10")
        if self.max_rotation_deg <= 0 or self.max_translation_mm <= 0:
            raise ValueError("max_rotation_deg and max_translation_mm must be positive")
        if not 0 <= self.min_overlap <= 1 or not 0 <= self.min_distinctness <= 1:
            raise ValueError("min_overlap and min_distinctness must lie between 0 and 1")


DEFAULT_SETTINGS = AlignSettings()
