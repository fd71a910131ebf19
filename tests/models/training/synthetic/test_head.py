"""A head follows from its seed, obeys the label rule, and is scanned at the right place on any grid."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from models.labels import Role
from models.training.synthetic.families import Family
from models.training.synthetic.head import LABEL_TISSUES, SyntheticHead, painted_appearance, synthesise
from models.training.synthetic.signal import draw_contrast
from models.training.synthetic.tissue import Tissue
from models.training.synthetic.tumour import Variant
from pipeline.volume import Geometry, Matrix

FRAME = "2.25.1"


@pytest.fixture(scope="module")
def unifocal() -> SyntheticHead:
    return synthesise(12, Variant.UNIFOCAL, spacing_mm=3.0)


def made_of(tissue: np.ndarray, spacing_mm: float) -> SyntheticHead:
    """Return a head of given tissues, centred at the origin of world coordinates."""
    geometry = Geometry.axial(tissue.shape, (spacing_mm,) * 3, (0.0, 0.0, 0.0), FRAME)
    look = painted_appearance(draw_contrast(np.random.default_rng(0), 0.0))
    return SyntheticHead(0, Variant.UNIFOCAL, geometry, tissue.astype(np.uint8), look)


def ball_at(centre_mm: tuple[float, float, float], radius_mm: float, kind: Tissue) -> SyntheticHead:
    """Return a ball of one tissue in air, on a grid of 1 mm."""
    z, y, x = np.meshgrid(*(np.arange(size) - (size - 1) / 2 for size in (80, 90, 84)), indexing="ij")
    inside = (x - centre_mm[0]) ** 2 + (y - centre_mm[1]) ** 2 + (z - centre_mm[2]) ** 2 < radius_mm**2
    return made_of(np.where(inside, kind, Tissue.AIR), 1.0)


def oblique_grid() -> Geometry:
    """Return an oblique grid of 3 x 1.2 x 1.1 mm voxels, away from the origin."""
    axes = Rotation.from_euler("xyz", (25, -15, 40), degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = 3.0 * axes[:, 2], 1.2 * axes[:, 1], 1.1 * axes[:, 0]
    shape = (40, 90, 100)
    affine[:3, 3] = np.array((3.0, -5.0, 7.0)) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Geometry.from_affine(affine, shape, FRAME)


def centre_of_mass(weights: np.ndarray, geometry: Geometry) -> np.ndarray:
    indices = np.argwhere(weights > 0)
    middle = np.average(indices, axis=0, weights=weights[weights > 0])
    return (geometry.affine @ np.append(middle, 1))[:3]


def some_motion() -> Matrix:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", (4, -3, 6), degrees=True).as_matrix()
    matrix[:3, 3] = (5.0, -4.0, 3.0)
    return tuple(tuple(float(value) for value in row) for row in matrix)  # type: ignore[return-value]


@pytest.mark.parametrize("motion", [None, some_motion()], ids=["still", "moved"])
def test_a_landmark_is_scanned_at_its_position(motion: Matrix | None) -> None:
    landmark = (11.0, -8.0, 6.0)
    head, grid = ball_at(landmark, 6.0, Tissue.ENHANCING), oblique_grid()
    matrix = np.eye(4) if motion is None else np.array(motion)
    expected = (matrix @ np.append(landmark, 1))[:3]
    pixels = head.acquire(Role.T1CE, grid, motion, noise_seed=1).pixels
    bright = np.where(pixels > 0.15 * pixels.max(), pixels, 0)  # clear of the noise in air
    assert centre_of_mass(bright, grid) == pytest.approx(expected, abs=0.3)
    truth = head.truth(grid, motion)
    assert centre_of_mass(truth[0].astype(float), grid) == pytest.approx(expected, abs=0.3)
    volume = truth[0].sum() * grid.voxel_volume_mm3
    assert volume == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.1)


def test_a_thick_slice_averages_its_content() -> None:
    tissue = np.full((40, 40, 40), Tissue.AIR)
    tissue[20:] = Tissue.WHITE  # the upper half, from z = 0 on
    head = made_of(tissue, 1.0)
    # Two slices of 10 mm around z = -2.5 and 7.5: the lower one holds white matter in a quarter of its thickness.
    grid = Geometry.axial((2, 11, 11), (10.0, 2.0, 2.0), (0.0, 0.0, 2.5), FRAME)
    pixels = head.acquire(Role.T1CE, grid, None, noise_seed=0).pixels
    ratio = pixels[0].mean() / pixels[1].mean()
    assert ratio == pytest.approx(0.25, abs=0.06)  # the bias field leans on both a little


def test_a_voxel_half_of_a_label_is_the_label() -> None:
    tissue = np.full((40, 40, 40), Tissue.WHITE)
    tissue[20:26] = Tissue.OEDEMA  # z from 0 to 6
    head = made_of(tissue, 1.0)
    # Slices of 4 mm around z = -2, 2, 6 hold 0, 4 and 2 mm of it, those around z = -5, -1, 3, 7 hold 0, 1, 4 and 1.
    for centre_z, expected in ((2.0, [False, True, True]), (1.0, [False, False, True, False])):
        grid = Geometry.axial((len(expected), 5, 5), (4.0, 2.0, 2.0), (0.0, 0.0, centre_z), FRAME)
        assert head.truth(grid)[2, :, 2, 2].tolist() == expected


def test_the_neck_continues_below_the_grid() -> None:
    tissue = np.full((40, 40, 40), Tissue.AIR)
    tissue[:, 12:28, 12:28] = Tissue.MUSCLE
    tissue[30:] = Tissue.AIR
    grid = Geometry.axial((5, 5, 5), (4.0, 2.0, 2.0), (0.0, 0.0, -60.0), FRAME)
    head = made_of(tissue, 1.0)
    muscle = head.appearance.levels[Role.T2][Tissue.MUSCLE] * 400
    assert head.acquire(Role.T2, grid, None, 0).pixels.mean() == pytest.approx(muscle, rel=0.3)


def test_adc_is_quantitative_and_its_failed_fits_are_zero() -> None:
    tissue = np.full((40, 40, 40), Tissue.AIR)
    tissue[:, 8:] = Tissue.WHITE
    head = made_of(tissue, 1.0)
    volume = head.acquire(Role.ADC, Geometry.axial((20, 20, 20), (2.0, 2.0, 2.0), (0, 0, 0), FRAME), None, 0)
    inside, air = volume.pixels[:, 6:], volume.pixels[:, :3]
    assert np.median(inside) == pytest.approx(head.appearance.levels[Role.ADC][Tissue.WHITE], rel=0.02)
    assert (air == 0).all()
    assert 0 < np.count_nonzero(inside == 0) < 0.005 * inside.size


def test_air_is_rayleigh_noise() -> None:
    head = made_of(np.full((40, 40, 40), Tissue.AIR), 1.0)
    pixels = head.acquire(Role.FLAIR, Geometry.axial((30, 30, 30), (1, 1, 1), (0, 0, 0), FRAME), None, 0).pixels
    # The magnitude of complex Gaussian noise: mean / standard deviation = sqrt(pi / (4 - pi)).
    assert pixels.mean() / pixels.std() == pytest.approx(np.sqrt(np.pi / (4 - np.pi)), rel=0.03)
    assert pixels.min() > 0


def test_labels_overlap_as_the_rule_says(unifocal: SyntheticHead) -> None:
    enhancing, adc, flair = unifocal.truth(unifocal.geometry)
    assert enhancing.any()
    assert not (enhancing & ~flair).any()
    assert not (flair & ~adc).any()
    necrosis = unifocal.tissue == Tissue.NECROSIS
    assert np.array_equal(adc & ~flair, necrosis)
    for mask, tissues in zip((enhancing, adc, flair), LABEL_TISSUES, strict=True):
        assert np.array_equal(mask, np.isin(unifocal.tissue, tissues))


def test_adc_inside_the_labels_is_above_white_matter(unifocal: SyntheticHead) -> None:
    adc = unifocal.acquire(Role.ADC, unifocal.geometry, None, 0).pixels
    truth = unifocal.truth(unifocal.geometry)
    white = np.median(adc[unifocal.tissue == Tissue.WHITE])
    assert 620 < white < 830
    assert 830 < np.median(adc[truth[0]]) < 1250
    assert np.median(adc[truth[1]]) > 1.2 * white


@pytest.mark.parametrize("variant", [Variant.LESION_FREE, Variant.NON_ENHANCING])
def test_a_label_without_its_tissue_is_empty(variant: Variant) -> None:
    head = synthesise(3, variant, spacing_mm=4.0)
    truth = head.truth(head.geometry)
    assert not truth[0].any()
    assert truth[1:].any() == (variant is Variant.NON_ENHANCING)


def test_everything_follows_from_the_seed() -> None:
    first, again, other = (synthesise(seed, Variant.SMALL, spacing_mm=4.0) for seed in (5, 5, 6))
    grid = Geometry.axial((12, 20, 20), (8.0, 8.0, 8.0), (0, 0, 0), FRAME)
    assert np.array_equal(first.tissue, again.tissue)
    assert first.geometry == again.geometry
    assert first.geometry.frame_of_reference_uid != other.geometry.frame_of_reference_uid
    assert not np.array_equal(first.tissue, other.tissue)
    scans = [one.acquire(Role.FLAIR, grid, None, seed).pixels for one, seed in ((first, 1), (again, 1), (first, 2))]
    assert np.array_equal(scans[0], scans[1])
    assert not np.array_equal(scans[0], scans[2])


def test_heads_need_neither_lightning_nor_monai() -> None:
    check = (
        "import sys, models.training.synthetic.head;"
        "sys.exit(any(name in sys.modules for name in ('lightning', 'monai', 'matplotlib', 'nilearn')))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_families_are_different_heads_on_the_same_grid() -> None:
    pytest.importorskip("nilearn", reason="heads of an average brain need the extra glionode[train]")
    heads = [synthesise(5, Variant.SMALL, 4.0, family) for family in Family]
    assert [head.family for head in heads] == list(Family)
    for one, other in itertools.combinations(heads, 2):
        assert one.geometry.shape == other.geometry.shape
        assert np.array_equal(one.geometry.affine, other.geometry.affine)
        assert one.geometry.frame_of_reference_uid != other.geometry.frame_of_reference_uid
        assert not np.array_equal(one.tissue, other.tissue)
