"""A head's bend leads to the template and back, and masses push outwards."""

import numpy as np
import pytest

from models.training.synthetic.growth_model.deformation import MassEffect, draw_deformation

PLACES = np.random.default_rng(0).uniform(-80, 80, size=(500, 3))


@pytest.mark.parametrize("seed", range(8))
def test_there_and_back(seed: int) -> None:
    masses = (MassEffect((30.0, -10.0, 20.0), 25.0, 0.4), MassEffect((20.0, 10.0, 25.0), 12.0, 0.4))
    for deformation in (
        draw_deformation(np.random.default_rng(seed)),
        draw_deformation(np.random.default_rng(seed)).with_mass_effects(masses),
    ):
        assert deformation.to_template(deformation.to_head(PLACES)) == pytest.approx(PLACES, abs=1e-3)
        assert deformation.to_head(deformation.to_template(PLACES)) == pytest.approx(PLACES, abs=1e-3)


def test_single_precision_is_enough_for_voxels() -> None:
    deformation = draw_deformation(np.random.default_rng(3))
    quick = deformation.to_template(PLACES.astype(np.float32))
    assert quick.dtype == np.float32
    assert quick == pytest.approx(deformation.to_template(PLACES), abs=1e-3)


def test_heads_differ_by_millimetres_and_never_fold_over() -> None:
    step = 0.01
    for seed in range(30):
        deformation = draw_deformation(np.random.default_rng(seed))
        slopes = [
            (deformation.to_template(PLACES + step * axis) - deformation.to_template(PLACES)) / step
            for axis in np.eye(3)
        ]
        assert np.linalg.det(np.stack(slopes, axis=-1)).min() > 0.3
    away = draw_deformation(np.random.default_rng(1)).to_head(PLACES) - draw_deformation(
        np.random.default_rng(2)
    ).to_head(PLACES)
    assert 2 < np.linalg.norm(away, axis=1).mean() < 30


def test_a_mass_pushes_away_and_its_reach_ends() -> None:
    centre = np.array((30.0, -10.0, 20.0))
    deformation = draw_deformation(np.random.default_rng(4))
    pushed = deformation.with_mass_effects((MassEffect((30.0, -10.0, 20.0), 15.0, 0.3),))
    rest, moved = deformation.to_head(PLACES), pushed.to_head(PLACES)
    before, after = np.linalg.norm(rest - centre, axis=1), np.linalg.norm(moved - centre, axis=1)
    near, far = before < 25, before > 75
    assert near.sum() > 3
    assert (after[near] > before[near] + 0.3).all()
    assert after[far] == pytest.approx(before[far], abs=0.01)
