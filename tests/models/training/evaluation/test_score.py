"""Each metric agrees with a case computed by hand or with another implementation, also for empty masks."""

from itertools import product

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from scipy.spatial import cKDTree

from models.training.evaluation.lesions import LesionScore, count_foci, pool, score_lesions
from models.training.evaluation.score import NOT_FOUND_MM, LabelScore, hd95_mm, score_label

SPACING = (3.0, 1.0, 0.5)
Box = tuple[slice, slice, slice]


def mask(*boxes: Box, shape: tuple[int, int, int] = (12, 40, 40)) -> np.ndarray:
    filled = np.zeros(shape, bool)
    for box in boxes:
        filled[box] = True
    return filled


def box(slices: tuple[int, int], rows: tuple[int, int], columns: tuple[int, int]) -> Box:
    return slice(*slices), slice(*rows), slice(*columns)


NOTHING = mask()
BLOCK = mask(box((3, 7), (10, 20), (10, 30)))  # 4 x 10 x 20 voxels of 1.5 mm3: 1.2 ml


def blobs(seed: int) -> np.ndarray:
    """Make a few random ellipsoids."""
    generator = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(*(np.arange(size) for size in NOTHING.shape), indexing="ij"), axis=-1)
    filled = np.zeros(NOTHING.shape, bool)
    for _ in range(3):
        centre, radii = generator.uniform((2, 8, 8), (10, 32, 32)), generator.uniform((1, 3, 3), (3, 9, 9))
        filled |= (((places - centre) / radii) ** 2).sum(axis=-1) < 1
    return filled


def test_dice_and_volume_by_hand() -> None:
    shifted = np.roll(BLOCK, 5, axis=2)  # a quarter of its columns
    score = score_label("any", BLOCK, shifted, SPACING)
    assert score.dice == pytest.approx(0.75)
    assert (score.true_ml, score.found_ml) == pytest.approx((1.2, 1.2))
    assert (score.difference_ml, score.difference_percent) == (0, 0)
    half = mask(box((3, 7), (10, 20), (10, 20)))
    score = score_label("any", BLOCK, half, SPACING)
    assert score.dice == pytest.approx(2 * 0.6 / 1.8)
    assert score.difference_ml == pytest.approx(-0.6)
    assert score.difference_percent == pytest.approx(100 * -0.6 / 0.9)


def test_dice_agrees_with_itk() -> None:
    for seed in range(3):
        truth, found = blobs(seed), blobs(seed + 10)
        measured = sitk.LabelOverlapMeasuresImageFilter()
        measured.Execute(*(sitk.GetImageFromArray(each.astype(np.uint8)) for each in (truth, found)))
        assert score_label("any", truth, found, SPACING).dice == pytest.approx(measured.GetDiceCoefficient(1))


@pytest.mark.parametrize(("axis", "voxels", "millimetres"), [(0, 2, 6.0), (1, 4, 4.0), (2, 8, 4.0)])
def test_distance_of_a_moved_block_is_the_move_in_millimetres(axis: int, voxels: int, millimetres: float) -> None:
    """More than 5 % of the block's surface is its far face, which is off by the whole distance."""
    assert hd95_mm(BLOCK, np.roll(BLOCK, voxels, axis=axis), SPACING) == pytest.approx(millimetres)


def surface_points(voxels: np.ndarray) -> np.ndarray:
    """Return the centres (mm) of voxels one of whose six neighbours lies outside."""
    padded = np.pad(voxels, 1)
    inside = padded.copy()
    for axis, step in product(range(3), (-1, 1)):
        inside &= np.roll(padded, step, axis=axis)
    return np.argwhere((padded & ~inside)[1:-1, 1:-1, 1:-1]) * np.array(SPACING)


def test_distance_agrees_with_a_search_for_nearest_neighbours() -> None:
    for seed in range(4):
        truth, found = blobs(seed), blobs(seed + 20)
        one, other = surface_points(truth), surface_points(found)
        ways = cKDTree(other).query(one)[0], cKDTree(one).query(other)[0]
        expected = max(np.percentile(way, 95) for way in ways)
        assert hd95_mm(truth, found, SPACING) == pytest.approx(expected, rel=1e-5)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # MONAI 1.6.1 warns of its own inner call
def test_distance_agrees_with_monai() -> None:
    for seed in range(4):
        truth, found = blobs(seed), blobs(seed + 30)
        tensors = (torch.from_numpy(each)[None, None] for each in (found, truth))
        other = compute_hausdorff_distance(*tensors, include_background=True, percentile=95, spacing=list(SPACING))
        assert hd95_mm(truth, found, SPACING) == pytest.approx(other.item(), rel=1e-5)


def test_a_single_false_voxel_changes_the_distance_little() -> None:
    speck = BLOCK.copy()
    speck[11, 39, 39] = True
    assert hd95_mm(BLOCK, speck, SPACING) == 0


def test_empty_masks_score_as_the_conventions_say() -> None:
    both, missed, false = (
        score_label("any", truth, found, SPACING)
        for truth, found in ((NOTHING, NOTHING), (BLOCK, NOTHING), (NOTHING, BLOCK))
    )
    assert facts(both) == (1, 0, 0, 0, 1, 1, 1)
    assert facts(missed) == pytest.approx((0, NOT_FOUND_MM, -1.2, -200, 0, 1, 0))
    assert facts(false) == pytest.approx((0, NOT_FOUND_MM, 1.2, 200, 1, 0, 0))
    assert [score.is_present for score in (both, missed, false)] == [False, True, False]
    assert pytest.approx(373.13, abs=0.005) == NOT_FOUND_MM


def facts(score: LabelScore) -> tuple[float, ...]:
    lesions = score.lesions
    volumes = (score.difference_ml, score.difference_percent)
    return (score.dice, score.hd95_mm, *volumes, lesions.sensitivity, lesions.precision, lesions.f1)


def test_no_distance_is_above_that_of_not_found() -> None:
    far = mask(box((0, 1), (0, 1), (0, 1)), shape=(2, 2, 2)), mask(box((1, 2), (0, 1), (0, 1)), shape=(2, 2, 2))
    assert hd95_mm(*far, (1000.0, 1.0, 1.0)) == NOT_FOUND_MM


# Voxels of 1 mm3 below: 50 voxels are the smallest lesion that counts.
A = box((0, 4), (0, 4), (0, 4))
B = box((0, 4), (10, 14), (0, 4))
C = box((0, 4), (20, 24), (0, 4))
SPECK = box((8, 9), (0, 7), (0, 7))  # 49 voxels


def test_lesions_are_counted_one_by_one() -> None:
    truth, found = mask(A, B), mask(A, C)
    assert score_lesions(truth, found, 1.0) == LesionScore(true=2, detected=1, found=2, confirmed=1)
    score = score_lesions(mask(A, B, C), mask(A, B), 1.0)
    assert (score.sensitivity, score.precision) == (pytest.approx(2 / 3), 1)
    assert score.f1 == pytest.approx(2 * (2 / 3) / (2 / 3 + 1))


def test_a_tenth_of_a_lesion_detects_it() -> None:
    six, seven = (np.zeros_like(NOTHING) for _ in range(2))
    six[0, 0:2, 0:3] = True  # 6 of 64 voxels
    seven[0, 0:2, 0:3] = seven[1, 0, 0] = True
    assert score_lesions(mask(A), six | mask(C), 1.0).detected == 0
    assert score_lesions(mask(A), seven | mask(C), 1.0).detected == 1
    # A found mask that spreads far beyond the lesion detects it, and is not confirmed by it.
    whole = np.ones_like(NOTHING)
    assert score_lesions(mask(A), whole, 1.0) == LesionScore(true=1, detected=1, found=1, confirmed=0)


def test_one_found_lesion_over_two_true_ones_detects_both() -> None:
    bridge = mask(box((0, 4), (0, 14), (0, 4)))
    assert score_lesions(mask(A, B), bridge, 1.0) == LesionScore(true=2, detected=2, found=1, confirmed=1)


def test_specks_neither_count_nor_make_a_lesion_false() -> None:
    assert score_lesions(mask(SPECK), NOTHING, 1.0) == LesionScore(0, 0, 0, 0)
    assert score_lesions(NOTHING, mask(SPECK), 1.0) == LesionScore(0, 0, 0, 0)
    assert score_lesions(mask(SPECK), NOTHING, 1.1).true == 1  # 49 voxels of 1.1 mm3 are enough
    # What was found over a true speck lies on something that is there.
    assert score_lesions(mask(SPECK), mask(box((8, 10), (0, 7), (0, 7))), 1.0) == LesionScore(0, 0, 1, 1)


def test_lesions_that_touch_at_a_corner_are_one() -> None:
    corner = mask(box((0, 4), (0, 4), (0, 4)), box((4, 8), (4, 8), (4, 8)))
    assert score_lesions(corner, NOTHING, 1.0).true == 1


def test_pooled_lesions_are_added_up() -> None:
    total = pool([LesionScore(2, 1, 3, 2), LesionScore(0, 0, 1, 0), LesionScore(0, 0, 0, 0)])
    assert total == LesionScore(2, 1, 4, 2)
    assert pool([]) == LesionScore(0, 0, 0, 0)


def test_foci_are_those_of_all_labels_together() -> None:
    assert count_foci(np.stack([mask(A), mask(B), NOTHING]), 10.0) == 2
    bridge = mask(box((0, 4), (0, 14), (0, 4)))
    assert count_foci(np.stack([mask(A), mask(B), bridge]), 10.0) == 1  # joined by a wider label
    assert count_foci(np.stack([mask(A), mask(B)]), 7.0) == 0  # 64 voxels of 7 mm3 are too small
    assert count_foci(np.stack([NOTHING]), 1.0) == 0
