"""Growth has the front that theory predicts, follows white matter, and stays in tissue."""

import numpy as np
import pytest

from models.training.synthetic.growth_model.fisher_kolmogorov import UNREACHED, GrowthParameters, grow, level_at

SHAPE = (40, 42, 44)
MM = 2.0
MIDDLE = np.array([[20.0, 21.0, 22.0]])
GROWTH = GrowthParameters(width_mm=2.0, grey_share=0.2, level=0.5)


def everywhere(share: float) -> np.ndarray:
    return np.full(SHAPE, share, dtype=np.float32)


def away() -> np.ndarray:
    places = np.stack(np.meshgrid(*(np.arange(size) for size in SHAPE), indexing="ij"), axis=-1)
    return np.asarray(np.linalg.norm(places - MIDDLE[0], axis=-1) * MM)


def ball_mm3(radius_mm: float) -> float:
    return 4 / 3 * np.pi * radius_mm**3


@pytest.mark.parametrize("radius_mm", [6.0, 12.0, 20.0])
def test_a_core_in_white_matter_is_a_ball_of_its_volume(radius_mm: float) -> None:
    logit = grow(everywhere(1), everywhere(0), everywhere(1), MIDDLE, GROWTH, ball_mm3(radius_mm), MM)
    core = logit > 0
    # The last step may overshoot by as much as the front moves in it.
    assert core.sum() * MM**3 == pytest.approx(ball_mm3(radius_mm), rel=0.35)
    assert core.sum() * MM**3 >= ball_mm3(radius_mm)
    assert away()[core].max() < away()[~core].min() + 1.5 * MM
    # The density decreases with the distance from the seed.
    assert np.corrcoef(away()[away() < 30], logit[away() < 30])[0, 1] < -0.95


@pytest.mark.parametrize("width_mm", [1.5, 3.0])
def test_the_front_has_its_width(width_mm: float) -> None:
    # A plane of cells grows along a bar. Ahead of a front of the least speed the density falls off as x exp(-x / w),
    # w being the root of D / rho; over this stretch that is a little less steep than exp(-x / w).
    white = np.ones((10, 10, 70), dtype=np.float32)
    plane = np.array([[i, j, 0.0] for i in range(10) for j in range(10)])
    growth = GrowthParameters(width_mm=width_mm, grey_share=0.2, level=0.5)
    logit = grow(white, 0 * white, white, plane, growth, 30 * 100 * MM**3, MM)
    ray = logit[5, 5]
    ahead = ray[(ray < -2) & (ray > -10)]
    assert len(ahead) >= 4
    assert np.diff(ahead).mean() / MM == pytest.approx(-1 / width_mm, rel=0.3)
    assert np.count_nonzero(ray > 0) == pytest.approx(30, abs=2)


def test_white_matter_carries_cells_further_than_grey() -> None:
    white = everywhere(1)
    white[:, 21:] = 0
    grey = 1 - white
    seed = np.array([[20.0, 20.0, 22.0]])
    logit = grow(white, grey, everywhere(1), seed, GROWTH, ball_mm3(14), MM)
    core = logit > 0
    assert core[:, :21].sum() > 1.5 * core[:, 21:].sum()
    assert core[:, 21:].any()


def test_fluid_stops_cells_and_takes_the_value_of_its_neighbours() -> None:
    white = everywhere(1)
    white[:, 25] = 0
    logit = grow(white, everywhere(0), everywhere(1), MIDDLE, GROWTH, ball_mm3(14), MM)
    assert (logit[:, 26:] == UNREACHED).all()
    assert logit[20, 24, 22] > -3
    assert logit[20, 25, 22] == logit[20, 24, 22]  # a lower value would dent the cortex in interpolation


def test_growth_ends_without_free_tissue() -> None:
    island = everywhere(0)
    island[18:23, 19:24, 20:25] = 1
    logit = grow(island, everywhere(0), everywhere(1), MIDDLE, GROWTH, ball_mm3(30), MM)
    assert (logit[18:23, 19:24, 20:25] > 3).all()


def test_levels_have_their_distance() -> None:
    logit = grow(everywhere(1), everywhere(0), everywhere(1), MIDDLE, GROWTH, ball_mm3(14), MM)
    core = logit > 0
    for reach_mm in (4.0, 10.0, -6.0):
        level = level_at(logit, core, everywhere(1) > 0, reach_mm, MM)
        radius = np.cbrt((logit > level).sum() * MM**3 * 3 / 4 / np.pi)
        edge = np.cbrt(core.sum() * MM**3 * 3 / 4 / np.pi)
        assert radius - edge == pytest.approx(reach_mm, abs=1.2)
    assert level_at(logit, core, everywhere(0) > 0, 4.0, MM) == np.inf
