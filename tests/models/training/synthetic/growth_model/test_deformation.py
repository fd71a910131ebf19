"""A deformation is invertible, and masses displace tissue outwards."""

from dataclasses import replace

import numpy as np
import pytest

from models.training.synthetic.growth_model.deformation import MassEffect, draw_deformation

POINTS = np.random.default_rng(0).uniform(-80, 80, size=(500, 3))


@pytest.mark.parametrize("seed", range(8))
def test_the_maps_are_inverse(seed: int) -> None:
    masses = (MassEffect((30.0, -10.0, 20.0), 25.0, 0.4), MassEffect((20.0, 10.0, 25.0), 12.0, 0.4))
    for deformation in (
        draw_deformation(np.random.default_rng(seed)),
        replace(draw_deformation(np.random.default_rng(seed)), mass_effects=masses),
    ):
        assert deformation.to_template(deformation.to_head(POINTS)) == pytest.approx(POINTS, abs=1e-3)
        assert deformation.to_head(deformation.to_template(POINTS)) == pytest.approx(POINTS, abs=1e-3)


def test_single_precision_is_enough_for_voxels() -> None:
    deformation = draw_deformation(np.random.default_rng(3))
    single = deformation.to_template(POINTS.astype(np.float32))
    assert single.dtype == np.float32
    assert single == pytest.approx(deformation.to_template(POINTS), abs=1e-3)


def test_heads_differ_by_millimetres_and_never_fold_over() -> None:
    step = 0.01
    for seed in range(30):
        deformation = draw_deformation(np.random.default_rng(seed))
        slopes = [
            (deformation.to_template(POINTS + step * axis) - deformation.to_template(POINTS)) / step
            for axis in np.eye(3)
        ]
        assert np.linalg.det(np.stack(slopes, axis=-1)).min() > 0.3
    away = draw_deformation(np.random.default_rng(1)).to_head(POINTS) - draw_deformation(
        np.random.default_rng(2)
    ).to_head(POINTS)
    assert 2 < np.linalg.norm(away, axis=1).mean() < 30


def test_a_mass_displaces_tissue_nearby_only() -> None:
    centre = np.array((30.0, -10.0, 20.0))
    deformation = draw_deformation(np.random.default_rng(4))
    displace = replace(deformation, mass_effects=(MassEffect((30.0, -10.0, 20.0), 15.0, 0.3),))
    rest, moved = deformation.to_head(POINTS), displace.to_head(POINTS)
    before, after = np.linalg.norm(rest - centre, axis=1), np.linalg.norm(moved - centre, axis=1)
    near, far = before < 25, before > 75
    assert near.sum() > 3
    assert (after[near] > before[near] + 0.3).all()
    assert after[far] == pytest.approx(before[far], abs=0.01)
