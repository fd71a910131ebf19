"""The random proportions of one head of the grown family."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class GrownProportions:
    """What differs between heads beside their bend."""

    cortex: float
    """Factor of the average cortex's thickness (2.5 mm); averaging smooths folds away, and so much grey matter."""
    white_mm: float
    """How far the border of white and grey matter lies within the average's."""
    atrophy_mm: float
    """How far the cortex has drawn back from its outer face: opens sulci."""
    gap_mm: float
    """CSF between brain and dura."""
    ventricles: float
    """Factor of the ventricles' radii."""
    skull_mm: float
    diploe: float
    """Share of the skull's thickness that is marrow."""
    fat_mm: float
    """Thickness of the scalp's fat."""
    spots: int
    """White-matter spots of age."""
    cap_mm: float
    """Thickness of the bright caps on the ventricles' horns."""
    veins: int
    """Veins that run over the cortex."""
    vessel_mm: float
    """Added to the radius of every vessel."""


def draw_proportions(generator: np.random.Generator) -> GrownProportions:
    """An adult between 20 and 85: atrophy, wide ventricles and white-matter changes come with age, each in its way."""
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
