"""Find roughly where one head lies in another's coordinates, from nothing but the images."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from pipeline.likeness import Comparison

_TURNS_DEG = ((0, 0, 0), (20, 0, 0), (-20, 0, 0), (0, 20, 0), (0, -20, 0), (0, 0, 20), (0, 0, -20))
"""Rotations to start from: patients nod, tilt and turn their heads by less than 45 degrees in a head coil."""
_DEGREES_PER_MM = 0.7
"""Size of the steps of angles: a rotation by one degree moves the surface of the head by about 1.5 mm."""
_LEAST_SEEN = 0.5
"""Share of the moving head below which a place counts for less: it may look like another at the edge of the picture."""
_LEAST_RISE = 1e-6
"""Nats; less is rounding."""


def motion_about(
    fixed_mm: NDArray[np.float64], moving_mm: NDArray[np.float64], parameters: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the 4 x 4 motion that turns about `fixed_mm`, and then lays it on `moving_mm` plus a shift.

    `parameters` are three angles, degrees about x, y, z, and the shift, mm.
    """
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", parameters[:3], degrees=True).as_matrix()
    matrix[:3, 3] = moving_mm + parameters[3:] - matrix[:3, :3] @ fixed_mm
    return matrix


def search(rough: Comparison, fine: Comparison, identity_too: bool) -> NDArray[np.float64]:
    """Return the motion, 4 x 4, of the greatest mutual information that climbing from many starts finds.

    The starts lay the heads' centres on each other, turned by _TURNS_DEG; `identity_too` adds the scanner's own
    coordinates. `rough` and `fine` compare the same series with voxels of about 8 and 3 mm.
    """
    centre, moving = rough.fixed_centre_mm, rough.moving_centre_mm
    starts = [np.array([*turn, 0.0, 0.0, 0.0]) for turn in _TURNS_DEG]
    if identity_too:
        starts.append(np.array([0.0, 0.0, 0.0, *(centre - moving)]))
    found = [_climb(rough, parameters, 16.0, 4.0) for parameters in starts]
    best = max(found, key=lambda each: each[0])[1]
    return motion_about(centre, moving, _climb(fine, best, 4.0, 1.0, (centre, moving))[1])


def climb_from_identity(rough: Comparison) -> NDArray[np.float64]:
    """Return the motion to which mutual information rises from the scanner's own coordinates, within about 4 mm."""
    centre = rough.fixed_centre_mm
    best = _climb(rough, np.zeros(6), 8.0, 4.0, (centre, centre))[1]
    return motion_about(centre, centre, best)


def _climb(
    comparison: Comparison,
    parameters: NDArray[np.float64],
    step_mm: float,
    last_step_mm: float,
    centres_mm: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> tuple[float, NDArray[np.float64]]:
    """Climb along each parameter in turn, with steps that are halved where none of them rises any more."""
    fixed, moving = centres_mm or (comparison.fixed_centre_mm, comparison.moving_centre_mm)

    def heights(places: NDArray[np.float64]) -> Iterator[float]:
        for likeness in comparison.of_each(np.stack([motion_about(fixed, moving, each) for each in places])):
            yield likeness.information * min(1.0, likeness.seen / _LEAST_SEEN)

    (best,) = heights(parameters[None])
    while step_mm >= last_step_mm:
        steps = step_mm * np.array([*[_DEGREES_PER_MM] * 3, *[1.0] * 3])
        risen, index = False, 0
        while index < 6:
            # Both directions along every parameter that is left in this round; those after the first rise go unused.
            neighbours = (
                parameters + np.repeat(np.diag(steps)[index:], 2, axis=0) * np.tile([1, -1], 6 - index)[:, None]
            )
            for number, value in enumerate(heights(neighbours)):
                if value > best + _LEAST_RISE:
                    best, parameters, risen = value, neighbours[number], True
                    index += number // 2 + 1
                    break
            else:
                break
        step_mm = step_mm if risen else step_mm / 2
    return best, parameters
