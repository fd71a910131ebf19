"""From the template to one head and back: an affine, smooth waves, and tissue pushed aside. Knows no anatomy."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from models.training.synthetic.growth_model.surfaces import Points

_CLOSE_MM = 1e-4
"""The way back is found step by step until places move less than this."""


@dataclass(frozen=True, slots=True)
class MassEffect:
    """Mass effect: what lay around `centre` (head coordinates, mm) has moved away from it."""

    centre: tuple[float, float, float]
    reach_mm: float
    """Standard deviation of the Gaussian with which the shift fades."""
    strength: float
    """Relative shift at the centre; must stay below 0.5 for the way back."""


@dataclass(frozen=True, slots=True)
class Deformation:
    """Places of one head, in template coordinates, and the other way."""

    matrix: NDArray[np.float64]
    """3 x 3, template from head."""
    shift: NDArray[np.float64]
    waves: NDArray[np.float64]
    """(waves, 3): wave vectors in radians per millimetre."""
    phases: NDArray[np.float64]
    """(waves,)."""
    sizes: NDArray[np.float64]
    """(waves, 3): displacement along x, y, z in millimetres."""
    mass_effects: tuple[MassEffect, ...] = ()

    def to_template(self, head: Points) -> Points:
        """Template coordinates of places in the head, in the precision of these (single is four times as fast)."""
        rest = head - sum((_pushed(head, mass) for mass in self.mass_effects), np.zeros_like(head))
        return np.asarray(rest @ self.matrix.T.astype(head.dtype) + self.shift.astype(head.dtype) + self._waved(rest))

    def to_head(self, template: Points) -> Points:
        """Where places of the template lie in the head; the inverse of `to_template` within some 1e-4 mm."""
        back = np.linalg.inv(self.matrix).T
        straight = (template - self.shift) @ back
        return self.pushed(_fixed_point(straight, lambda at: straight - self._waved(at) @ back))

    def pushed(self, rest: Points) -> Points:
        """Where the masses have moved places of the same head without them."""
        if not self.mass_effects:
            return rest
        return _fixed_point(rest, lambda at: rest + sum((_pushed(at, b) for b in self.mass_effects), np.zeros_like(at)))

    def with_mass_effects(self, mass_effects: tuple[MassEffect, ...]) -> "Deformation":
        """The same head with masses in it."""
        return replace(self, mass_effects=mass_effects)

    def _waved(self, at: Points) -> Points:
        angles = at @ self.waves.T.astype(at.dtype) + self.phases.astype(at.dtype)
        return np.asarray(np.sin(angles) @ self.sizes.astype(at.dtype))


def draw_deformation(generator: np.random.Generator) -> Deformation:
    """A head 0.9 to 1.02 of the template's size along each axis, turned and bent."""
    turn = Rotation.from_euler("xyz", generator.normal(0, (5, 3, 4)), degrees=True).as_matrix()
    scale = generator.uniform(0.92, 1.0) * generator.uniform(0.98, 1.02, size=3)
    lengths = np.concatenate((generator.uniform(90, 160, size=5), generator.uniform(35, 60, size=7)))
    directions = generator.normal(size=(12, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    # The slope of a wave is 2 pi size / length: all of them together stay well below 1, so that nothing folds over.
    sizes = generator.normal(size=(12, 3)) * (0.011 * lengths)[:, None]
    return Deformation(
        matrix=turn / scale,
        shift=generator.normal(0, 2, size=3),
        waves=directions * (2 * np.pi / lengths)[:, None],
        phases=generator.uniform(0, 2 * np.pi, size=12),
        sizes=sizes,
    )


def _fixed_point(start: Points, step: Callable[[Points], Points]) -> Points:
    """Where `step` leads to itself; it must bring places together."""
    at, moved = step(start), np.inf
    while moved > _CLOSE_MM:
        before, at = at, step(at)
        moved = float(np.abs(at - before).max(initial=0.0))
    return at


def _pushed(at: Points, mass: MassEffect) -> Points:
    away = at - np.array(mass.centre, dtype=at.dtype)
    fade = mass.strength * np.exp(-(away**2).sum(axis=1, keepdims=True) / (2 * mass.reach_mm**2))
    return np.asarray(away * fade)
