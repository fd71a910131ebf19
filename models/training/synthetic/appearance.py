"""How the tissues of one head look in every sequence, whatever family drew it. Holds values; knows no physics."""

from collections.abc import Mapping
from dataclasses import dataclass

from models.labels import Role
from models.training.synthetic.signal import Levels


@dataclass(frozen=True, slots=True)
class ArtefactStrengths:
    """How much a scanner spoils what it sees. The defaults are those of the painted family."""

    noise: tuple[float, float] = (0.02, 0.045)
    """Lowest and highest standard deviation of the noise in weighted images; white matter is 1."""
    bias: float = 0.12
    """Spread of the logarithm of the smooth field that shades weighted images."""
    ghost: float = 0.0
    """Largest strength of the copy that motion throws half a field of view along the rows, relative to the signal."""
    adc_noise: tuple[float, float] = (25.0, 60.0)
    """Lowest and highest standard deviation of the noise of the ADC in white matter, 10^-6 mm2/s."""
    failed_fits: float = 5e-4
    """Share of the voxels whose ADC is 0 by chance."""


@dataclass(frozen=True, slots=True)
class Appearance:
    """One drawing of all signals of a head."""

    levels: Mapping[Role, Levels]
    """Signal of each tissue in each sequence; white matter is 1, except ADC, which is in 10^-6 mm2/s."""
    echo_planar: Levels
    """Signal of each tissue without diffusion weighting: what weighs the parts of a voxel in its ADC."""
    texture: Levels
    """Relative unevenness of each tissue."""
    artefacts: ArtefactStrengths = ArtefactStrengths()
