"""Deform the template to one head and back: an affine map, smooth waves, and mass effect."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from models.training.synthetic.growth_model.surfaces import Points

_CLOSE_MM = 1e-4
"""The fixed-point iteration of an inverse ends when no point moves by more than this."""


@dataclass(frozen=True, slots=True)
class MassEffect:
    """A mass that displaces tissue away from `centre` (head coordinates, mm)."""

    centre: tuple[float, float, float]
    reach_mm: float
    """Standard deviation of the Gaussian by which the displacement fades."""
    strength: float
    """Relative displacement at the centre; must be below 0.5 to be invertible."""


@dataclass(frozen=True, slots=True)
class Deformation:
    """An invertible map between template and head coordinates."""

    matrix: NDArray[np.float64]
    """3 x 3, from head to template."""
    shift: NDArray[np.float64]
    waves: NDArray[np.float64]
    """Wave vectors (waves, 3) in radians per millimetre."""
    phases: NDArray[np.float64]
    """Phases (waves,) in radians."""
    sizes: NDArray[np.float64]
    """Displacements (waves, 3) along x, y, z in millimetres."""
    mass_effects: tuple[MassEffect, ...] = ()

    def to_template(self, head: Points) -> Points:
        """Map head to template coordinates. Single precision input is four times as fast and gives single precision."""
        rest = head - sum((_displacement(head, mass) for mass in self.mass_effects), np.zeros_like(head))
        return np.asarray(
            rest @ self.matrix.T.astype(head.dtype) + self.shift.astype(head.dtype) + self._wave_shift(rest)
        )

    def to_head(self, template: Points) -> Points:
        """Map template to head coordinates: the inverse of `to_template` to about 1e-4 mm."""
        back = np.linalg.inv(self.matrix).T
        straight = (template - self.shift) @ back
        return self.displace(_fixed_point(straight, lambda at: straight - self._wave_shift(at) @ back))

    def displace(self, rest: Points) -> Points:
        """Displace points of the head without masses to where the masses have moved them."""
        if not self.mass_effects:
            return rest
        return _fixed_point(
            rest, lambda at: rest + sum((_displacement(at, b) for b in self.mass_effects), np.zeros_like(at))
        )

    def _wave_shift(self, at: Points) -> Points:
        angles = at @ self.waves.T.astype(at.dtype) + self.phases.astype(at.dtype)
        return np.asarray(np.sin(angles) @ self.sizes.astype(at.dtype))


def draw_deformation(generator: np.random.Generator) -> Deformation:
    """Draw a rotation, a scale of 0.9 to 1.02 of the template along each axis, and smooth waves."""
    turn = Rotation.from_euler("xyz", generator.normal(0, (5, 3, 4)), degrees=True).as_matrix()
    scale = generator.uniform(0.92, 1.0) * generator.uniform(0.98, 1.02, size=3)
    lengths = np.concatenate((generator.uniform(90, 160, size=5), generator.uniform(35, 60, size=7)))
    directions = generator.normal(size=(12, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    # The slope of a wave is 2 pi size / length: their sum stays well below 1, so that nothing folds over.
    sizes = generator.normal(size=(12, 3)) * (0.011 * lengths)[:, None]
    return Deformation(
        matrix=turn / scale,
        shift=generator.normal(0, 2, size=3),
        waves=directions * (2 * np.pi / lengths)[:, None],
        phases=generator.uniform(0, 2 * np.pi, size=12),
        sizes=sizes,
    )


def _fixed_point(start: Points, step: Callable[[Points], Points]) -> Points:
    """Iterate `step`, which must be a contraction, to its fixed point."""
    at, moved = step(start), np.inf
    while moved > _CLOSE_MM:
        before, at = at, step(at)
        moved = float(np.abs(at - before).max(initial=0.0))
    return at


def _displacement(at: Points, mass: MassEffect) -> Points:
    away = at - np.array(mass.centre, dtype=at.dtype)
    fade = mass.strength * np.exp(-(away**2).sum(axis=1, keepdims=True) / (2 * mass.reach_mm**2))
    return np.asarray(away * fade)
