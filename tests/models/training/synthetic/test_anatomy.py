"""A painted head has every organ at its place in a plausible size, and its tumour in the brain."""

import numpy as np
import pytest
from scipy.ndimage import label

from models.training.synthetic.anatomy import HEAD_EXTENT_MM, paint_head
from models.training.synthetic.tissue import Tissue, TissueMap
from models.training.synthetic.tumour import Variant

SPACING = 3.0
LESION = (Tissue.ENHANCING, Tissue.NECROSIS, Tissue.NON_ENHANCING, Tissue.OEDEMA)
INSIDE = (Tissue.CAVITY, Tissue.BLOOD)


def head(seed: int, variant: Variant, template: bool = False) -> TissueMap:
    return paint_head(np.random.default_rng(seed), variant, SPACING, template)


def volume_ml(tissue: TissueMap, *kinds: Tissue) -> float:
    return float(np.isin(tissue, kinds).sum()) * SPACING**3 / 1000


def middle(tissue: TissueMap, kind: Tissue) -> np.ndarray:
    return np.argwhere(tissue == kind).mean(axis=0)


@pytest.mark.parametrize("template", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_organs_have_plausible_volumes(seed: int, template: bool) -> None:
    tissue = head(seed, Variant.LESION_FREE, template)
    extent = [size * SPACING for size in tissue.shape]
    assert extent == pytest.approx(HEAD_EXTENT_MM, abs=2 * SPACING)
    # Adult brains have about 1000 to 1600 ml, the wide bounds are for coarse voxels and scaled heads.
    brain = volume_ml(tissue, Tissue.GREY, Tissue.WHITE, Tissue.DEEP_GREY, Tissue.SPOT)
    assert 900 < brain < 1900
    assert 100 < volume_ml(tissue, Tissue.CSF) < 900
    for kind in set(Tissue) - {
        Tissue.CHOROID,
        Tissue.SPOT,
        *LESION,
        *INSIDE,
    }:  # plexus and spots can be finer than the voxels
        assert volume_ml(tissue, kind) > 1, kind.name


@pytest.mark.parametrize("template", [False, True])
def test_the_face_is_in_front_and_the_neck_below(template: bool) -> None:
    tissue = head(1, Variant.LESION_FREE, template)
    rows = tissue.shape[1]
    eyes, brain = middle(tissue, Tissue.VITREOUS), middle(tissue, Tissue.WHITE)
    # Rows run from front to back, slices from feet to head.
    assert eyes[1] < brain[1] - rows / 4
    assert eyes[0] < brain[0]
    assert (tissue[0] == Tissue.MUSCLE).any()
    right, both = np.count_nonzero(tissue[..., : tissue.shape[2] // 2]), np.count_nonzero(tissue)
    assert right / both == pytest.approx(0.5, abs=0.1)


def test_heads_do_not_touch_the_sides_of_their_grid() -> None:
    # Tissue at a side is continued beyond the grid, which is correct for the neck only.
    for seed in range(12):
        tissue = paint_head(np.random.default_rng(seed), Variant.LESION_FREE, 4.0, template=seed % 2 == 1)
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
    assert (enhancing > 0) == (variant not in (Variant.NON_ENHANCING, Variant.LESION_FREE))
    assert (infiltrating + oedema > 0) == (variant is not Variant.LESION_FREE)
    if variant is Variant.SMALL:
        # Lobes reach 1.7 radii of at most 7 mm: the core of each fits into a ball of 12 mm.
        assert enhancing < 5 * 4 / 3 * np.pi * 1.2**3


def test_a_resection_leaves_a_cavity() -> None:
    fluid = [volume_ml(head(200 + seed, Variant.RESECTED), Tissue.CAVITY) for seed in range(5)]
    assert min(fluid) > 0
    assert max(fluid) > 5
    assert not (head(7, Variant.UNIFOCAL) == Tissue.CAVITY).any()


def test_the_template_has_the_cerebellum_below_and_behind() -> None:
    # The average brain is symmetric; the grey matter of the cerebellum tells its axes apart.
    tissue = head(5, Variant.LESION_FREE, template=True)
    slices, rows = tissue.shape[:2]
    low = tissue[int(0.32 * slices) : int(0.4 * slices)]
    behind = np.isin(low[:, rows // 2 :], (Tissue.GREY, Tissue.WHITE)).sum()
    assert behind > 1.3 * np.isin(low[:, : rows // 2], (Tissue.GREY, Tissue.WHITE)).sum()
    fluid = np.argwhere(tissue[:, :, tissue.shape[2] // 2 - 8 : tissue.shape[2] // 2 + 8] == Tissue.CHOROID)
    assert len(fluid)


@pytest.mark.parametrize("template", [False, True])
def test_oedema_is_connected_to_the_tumour(template: bool) -> None:
    for seed in range(4):
        tissue = head(40 + seed, Variant.MULTIFOCAL, template)
        parts, count = label(np.isin(tissue, (*LESION, *INSIDE)))
        tumour = np.isin(tissue, (Tissue.ENHANCING, Tissue.NON_ENHANCING))
        assert count
        assert set(np.unique(parts[tissue == Tissue.OEDEMA])) <= set(np.unique(parts[tumour]))


@pytest.mark.parametrize("template", [False, True])
def test_tumour_replaces_brain_only(template: bool) -> None:
    with_tumour, without = (head(7, variant, template) for variant in (Variant.UNIFOCAL, Variant.LESION_FREE))
    skull = np.isin(without, (Tissue.BONE, Tissue.MARROW, Tissue.FAT, Tissue.MUSCLE, Tissue.AIR))
    assert not np.isin(with_tumour[skull], LESION).any()


def test_the_same_generator_paints_the_same_head() -> None:
    assert np.array_equal(head(3, Variant.MULTIFOCAL), head(3, Variant.MULTIFOCAL))
    assert not np.array_equal(head(3, Variant.MULTIFOCAL), head(4, Variant.MULTIFOCAL))
