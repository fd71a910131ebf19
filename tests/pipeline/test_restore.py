"""Masks on the series' own grid are thresholded after interpolation."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from pipeline.resample import interpolate, smoothed_for
from pipeline.restore import restore
from pipeline.volume import Geometry, Matrix

GRID = Geometry.axial((16, 16, 16), (2, 2, 2), (0, 0, 0), "1.2")


def test_an_edge_is_decided_after_interpolation() -> None:
    # The logit rises linearly along x: -3 at -15 mm, 3 at +15 mm; a probability of 0.75 is a logit of ln 3.
    probabilities = torch.linspace(-3, 3, 16).sigmoid().expand(1, 16, 16, 16).contiguous()
    target = Geometry.axial((3, 3, 61), (1, 1, 0.5), (0, 0, 0), "1.2")
    x = -15 + 0.5 * np.arange(61)
    masks = restore(probabilities, GRID, target, (0.75,))
    assert masks.shape == (1, 3, 3, 61)
    np.testing.assert_array_equal(masks[0], np.broadcast_to(x >= 5 * np.log(3), (3, 3, 61)))


def test_a_low_threshold_does_not_widen_a_sharp_outline() -> None:
    probabilities = torch.zeros(1, 16, 16, 16)
    probabilities[0, 6:10, 6:10, 6:10] = 1
    target = Geometry.axial((64, 64, 64), (0.5, 0.5, 0.5), (0, 0, 0), "1.2")
    half, low = (int(restore(probabilities, GRID, target, (threshold,)).sum()) for threshold in (0.5, 0.2))
    assert half <= low < 1.3 * half


def test_a_low_threshold_finds_what_fills_a_part_of_a_voxel() -> None:
    probabilities = torch.zeros(1, 16, 16, 16)
    probabilities[0, 8, 8, 8] = 0.35
    assert not restore(probabilities, GRID, GRID, (0.5,)).any()
    assert restore(probabilities, GRID, GRID, (0.3,)).sum() == 1


def test_a_coarser_series_is_decided_by_the_mean_of_its_voxels() -> None:
    # Two planes of 2 mm amid voxels of 14 mm: a seventh of each.
    probabilities = torch.zeros(1, 16, 16, 16)
    probabilities[0, [4, 11]] = 1
    target = Geometry.axial((2, 2, 2), (14, 14, 14), (0, 0, 0), "1.2")
    assert not restore(probabilities, GRID, target, (0.3,)).any()
    assert restore(probabilities, GRID, target, (0.1,)).all()


def test_labels_overlap_and_have_their_own_thresholds() -> None:
    probabilities = torch.full((2, 16, 16, 16), 0.4)
    masks = restore(probabilities, GRID, GRID, (0.3, 0.5))
    assert masks[0].all()
    assert not masks[1].any()


def test_outside_of_the_models_grid_there_is_no_label() -> None:
    target = Geometry.axial((16, 16, 64), (2, 2, 2), (0, 0, 0), "1.2")
    masks = restore(torch.ones(1, 16, 16, 16), GRID, target, (0.5,))
    assert masks[0, :, :, 24:40].all()
    assert not masks[0, :, :, :23].any()
    assert not masks[0, :, :, 41:].any()


def test_the_inverse_of_an_alignment_moves_a_mask_to_its_series() -> None:
    probabilities = torch.zeros(1, 16, 16, 16)
    probabilities[0, 8, 8, 8] = 1  # at (1, 1, 1) mm in T1CE's world
    shift = ((1.0, 0.0, 0.0, -4.0), (0.0, 1.0, 0.0, 2.0), (0.0, 0.0, 1.0, -6.0), (0.0, 0.0, 0.0, 1.0))
    masks = restore(probabilities, GRID, GRID, (0.5,), target_to_grid=shift)
    # A point p of the series stands at p + (-4, 2, -6) in T1CE's world: the voxel appears at (5, -1, 7) mm.
    assert np.argwhere(masks[0]).tolist() == [[11, 7, 10]]


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (6.0, 0.9, 0.9), (5.0, 4.0, 4.0), (0.7, 0.7, 3.0)])
@pytest.mark.parametrize("seed", range(5))
def test_only_the_part_within_reach_is_sampled_with_the_answer_of_sampling_all(
    spacing: tuple[float, float, float], seed: int
) -> None:
    random = np.random.default_rng(seed)
    probabilities = torch.zeros(2, 16, 16, 16)
    for row, column in zip(random.integers(0, 2, 4), random.integers(0, 14, (4, 3)), strict=True):
        probabilities[row, column[0] : column[0] + 3, column[1] : column[1] + 2, column[2] : column[2] + 3] = 0.9
    affine = np.eye(4)
    affine[:3, :3] = Rotation.random(random_state=seed).as_matrix() @ np.diag(spacing)
    affine[:3, 3] = random.normal(0, 4, 3) - affine[:3, :3] @ np.array([9.5, 14.5, 15.5])
    target = Geometry.from_affine(affine, (20, 30, 32), "1.2")
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_euler("xyz", random.normal(0, 5, 3), degrees=True).as_matrix()
    motion[:3, 3] = random.normal(0, 3, 3)
    matrix: Matrix = tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in motion)
    found = restore(probabilities, GRID, target, (0.2, 0.5), matrix)
    logits = torch.logit(smoothed_for(target, probabilities, GRID), eps=1e-3)
    whole = interpolate(logits, GRID, target, matrix).numpy()
    np.testing.assert_array_equal(found[0], whole[0] >= np.float32(np.log(0.2 / 0.8)))
    np.testing.assert_array_equal(found[1], whole[1] >= 0)
    assert found.any()


def test_no_voxel_over_the_threshold_is_an_empty_mask() -> None:
    assert not restore(torch.full((1, 16, 16, 16), 0.4), GRID, GRID, (0.5,)).any()
