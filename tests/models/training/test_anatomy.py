"""A painted head has every organ, at a plausible size and in its place, and its tumour where tumours grow."""

import numpy as np
import pytest

from models.training.anatomy import HEAD_EXTENT_MM, paint_head
from models.training.tissue import Tissue, TissueMap
from models.training.tumour import Variant

SPACING = 3.0
LESION = (Tissue.ENHANCING, Tissue.NECROSIS, Tissue.NON_ENHANCING, Tissue.OEDEMA)


def head(seed: int, variant: Variant) -> TissueMap:
    return paint_head(np.random.default_rng(seed), variant, SPACING)


def volume_ml(tissue: TissueMap, *kinds: Tissue) -> float:
    return float(np.isin(tissue, kinds).sum()) * SPACING**3 / 1000


def middle(tissue: TissueMap, kind: Tissue) -> np.ndarray:
    return np.argwhere(tissue == kind).mean(axis=0)


@pytest.mark.parametrize("seed", range(4))
def test_organs_have_plausible_volumes(seed: int) -> None:
    tissue = head(seed, Variant.LESION_FREE)
    extent = [size * SPACING for size in tissue.shape]
    assert extent == pytest.approx(HEAD_EXTENT_MM, abs=2 * SPACING)
    # Adult brains have about 1000 to 1600 ml, the wide bounds are for coarse voxels and scaled heads.
    brain = volume_ml(tissue, Tissue.GREY, Tissue.WHITE, Tissue.DEEP_GREY, Tissue.SPOT)
    assert 900 < brain < 1900
    assert 100 < volume_ml(tissue, Tissue.CSF) < 900
    for kind in set(Tissue) - {Tissue.CHOROID, Tissue.SPOT, *LESION}:  # plexus and spots can be finer than the voxels
        assert volume_ml(tissue, kind) > 1, kind.name


def test_the_face_is_in_front_and_the_neck_below() -> None:
    tissue = head(1, Variant.LESION_FREE)
    rows = tissue.shape[1]
    eyes, brain = middle(tissue, Tissue.VITREOUS), middle(tissue, Tissue.WHITE)
    # Rows run from front to back, slices from feet to head.
    assert eyes[1] < brain[1] - rows / 4
    assert eyes[0] < brain[0]
    assert (tissue[0] == Tissue.MUSCLE).any()
    right, both = np.count_nonzero(tissue[..., : tissue.shape[2] // 2]), np.count_nonzero(tissue)
    assert right / both == pytest.approx(0.5, abs=0.1)


def test_heads_do_not_touch_the_sides_of_their_grid() -> None:
    # What touches a side is taken to go on beyond it, which is right for the neck alone.
    for seed in range(20):
        tissue = paint_head(np.random.default_rng(seed), Variant.LESION_FREE, 4.0)
        for side in (tissue[-1], tissue[:, 0], tissue[:, -1], tissue[..., 0], tissue[..., -1]):
            assert np.count_nonzero(side) < 0.01 * side.size


@pytest.mark.parametrize("variant", list(Variant))
def test_each_variant_has_its_lesion(variant: Variant) -> None:
    volumes = dict.fromkeys(LESION, 0.0)
    for seed in range(5):
        tissue = head(100 + seed, variant)
        for kind in LESION:
            volumes[kind] += volume_ml(tissue, kind)
    enhancing, _, infiltrating, oedema = (volumes[kind] for kind in LESION)
    assert (enhancing > 0) == (variant in (Variant.UNIFOCAL, Variant.MULTIFOCAL, Variant.SMALL))
    assert (infiltrating + oedema > 0) == (variant is not Variant.LESION_FREE)
    if variant is Variant.SMALL:
        # Lobes reach 1.7 radii of at most 7 mm: the core of each fits into a ball of 12 mm.
        assert enhancing < 5 * 4 / 3 * np.pi * 1.2**3


def test_tumour_takes_brain_and_nothing_else() -> None:
    generator_seed = 7
    with_tumour, without = head(generator_seed, Variant.UNIFOCAL), head(generator_seed, Variant.LESION_FREE)
    skull = np.isin(without, (Tissue.BONE, Tissue.MARROW, Tissue.FAT, Tissue.MUSCLE, Tissue.AIR))
    assert not np.isin(with_tumour[skull], LESION).any()


def test_the_same_generator_paints_the_same_head() -> None:
    assert np.array_equal(head(3, Variant.MULTIFOCAL), head(3, Variant.MULTIFOCAL))
    assert not np.array_equal(head(3, Variant.MULTIFOCAL), head(4, Variant.MULTIFOCAL))
