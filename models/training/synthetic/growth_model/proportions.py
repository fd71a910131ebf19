"""Draw the proportions of a grown head."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class GrownProportions:
    """Random proportions of a head of the family GROWN, beside its deformation."""

    cortex: float
    """Factor of the average thickness of the cortex (2.5 mm); above 1, since averaging smooths away folds."""
    white_mm: float
    """Distance by which the border of white and grey matter is inside of the average's."""
    atrophy_mm: float
    """Distance by which the cortex has receded, which opens sulci."""
    gap_mm: float
    """CSF between brain and dura."""
    ventricles: float
    """Factor of the radii of the ventricles."""
    skull_mm: float
    diploe: float
    """Share of the skull's thickness that is marrow."""
    fat_mm: float
    """Thickness of the scalp's fat."""
    spots: int
    """Number of age-related white matter spots."""
    cap_mm: float
    """Thickness of the bright caps on the ventricles' horns."""
    veins: int
    """Number of veins on the cortex."""
    vessel_mm: float
    """Added to the radius of every vessel."""


def draw_proportions(generator: np.random.Generator) -> GrownProportions:
    """Draw an adult of 20 to 85 years. Atrophy, ventricles and white matter changes grow with age."""
    age = float(generator.uniform(0, 1))

    def aged(young: float, old: float, spread: float) -> float:
        return max(0.0, young + age * (old - young) + float(generator.normal(0, spread)))

    return GrownProportions(
        cortex=float(generator.uniform(1.2, 1.6)),
        white_mm=float(generator.uniform(0.2, 0.8)),
        atrophy_mm=aged(0.0, 0.5, 0.1),
        gap_mm=0.9 + aged(0.2, 2.0, 0.3),
        ventricles=0.6 + aged(0.05, 0.55, 0.12),
        skull_mm=float(generator.uniform(4.5, 8)),
        diploe=float(generator.uniform(0.15, 0.5)),
        fat_mm=float(generator.uniform(2, 7)),
        spots=int(generator.poisson(aged(0, 28, 3))),
        cap_mm=aged(0, 3.0, 0.8),
        veins=int(generator.integers(12, 40)),
        vessel_mm=float(generator.uniform(-0.2, 0.5)),
    )
