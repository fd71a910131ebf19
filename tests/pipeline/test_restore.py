"""Masks come back to the series' own grid, decided only after interpolation."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from pipeline.resample import resample
from pipeline.restore import restore
from pipeline.volume import Geometry, Matrix

GRID = Geometry.axial((16, 16, 16), (2, 2, 2), (0, 0, 0), "1.2")


def test_an_edge_is_decided_after_interpolation() -> None:
    # Probability rises linearly along x: 0 at -15 mm, 1 at +15 mm; it reaches 0.75 at +7.5 mm.
    probabilities = torch.linspace(0, 1, 16).expand(1, 16, 16, 16).contiguous()
    target = Geometry.axial((3, 3, 61), (1, 1, 0.5), (0, 0, 0), "1.2")
    x = -15 + 0.5 * np.arange(61)
    masks = restore(probabilities, GRID, target, (0.75,))
    assert masks.shape == (1, 3, 3, 61)
    np.testing.assert_array_equal(masks[0], np.broadcast_to(x >= 7.5, (3, 3, 61)))


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
    whole = torch.nan_to_num(resample(probabilities, GRID, target, matrix), nan=0.0).numpy()
    np.testing.assert_array_equal(found[0], whole[0] >= 0.2)
    np.testing.assert_array_equal(found[1], whole[1] >= 0.5)
    assert found.any()


def test_no_voxel_over_the_threshold_is_an_empty_mask() -> None:
    assert not restore(torch.full((1, 16, 16, 16), 0.4), GRID, GRID, (0.5,)).any()
