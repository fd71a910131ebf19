"""A grown head has every organ at its place and the tumour of its variant, and is reproducible."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from scipy.ndimage import label

from models.training.synthetic.anatomy import HEAD_EXTENT_MM
from models.training.synthetic.growth_model.grow_head import grow_head
from models.training.synthetic.tissue import Tissue, TissueMap
from models.training.synthetic.tumour import Variant

pytest.importorskip("nilearn", reason="grown heads are made of nilearn's surfaces, of the extra glionode[train]")

SPACING = 4.0
CORE = (Tissue.ENHANCING, Tissue.NECROSIS, Tissue.NON_ENHANCING, Tissue.CAVITY, Tissue.BLOOD)
Heads = Callable[[int, Variant], TissueMap]


@pytest.fixture(scope="module")
def heads() -> Heads:
    """Return heads by seed and variant; each is generated once."""
    return cache(lambda seed, variant: grow_head(np.random.default_rng(seed), variant, SPACING))


def volume_ml(tissue: TissueMap, *kinds: Tissue) -> float:
    return float(np.isin(tissue, kinds).sum()) * SPACING**3 / 1000


def middle(tissue: TissueMap, kind: Tissue) -> np.ndarray:
    return np.argwhere(tissue == kind).mean(axis=0)


@pytest.mark.parametrize("seed", range(2))
def test_organs_have_plausible_volumes(heads: Heads, seed: int) -> None:
    tissue = heads(seed, Variant.LESION_FREE)
    assert [size * SPACING for size in tissue.shape] == pytest.approx(HEAD_EXTENT_MM, abs=2 * SPACING)
    brain = volume_ml(tissue, Tissue.GREY, Tissue.WHITE, Tissue.DEEP_GREY, Tissue.SPOT)
    assert 750 < brain < 1500  # of about 1200 ml, voxels as wide as the cortex lose the thinnest to fluid
    assert 0.6 < volume_ml(tissue, Tissue.GREY) / volume_ml(tissue, Tissue.WHITE) < 1.6
    assert 150 < volume_ml(tissue, Tissue.CSF) < 700
    for kind in set(Tissue) - {Tissue.CHOROID, Tissue.SPOT, Tissue.OEDEMA, *CORE}:
        assert volume_ml(tissue, kind) > 1, kind.name
    assert not np.isin(tissue, (Tissue.OEDEMA, *CORE)).any()


def test_organs_are_at_their_places(heads: Heads) -> None:
    tissue = heads(0, Variant.LESION_FREE)
    rows = tissue.shape[1]
    brain, eyes, plexus = middle(tissue, Tissue.GREY), middle(tissue, Tissue.VITREOUS), middle(tissue, Tissue.DEEP_GREY)
    # Rows run from front to back, slices from feet to head.
    assert eyes[1] < brain[1] - rows / 5
    assert eyes[0] < brain[0]
    assert np.abs(plexus - brain).max() * SPACING < 25
    assert (tissue[0] == Tissue.MUSCLE).any()
    # The lowest grey matter is that of the cerebellum, behind the middle of the brain.
    grey = np.argwhere(tissue == Tissue.GREY)
    assert grey[np.argsort(grey[:, 0])[:100], 1].mean() > brain[1]
    right, both = np.count_nonzero(tissue[..., : tissue.shape[2] // 2]), np.count_nonzero(tissue)
    assert right / both == pytest.approx(0.5, abs=0.1)


def test_cortex_lies_around_white_matter_and_skull_around_it_all(heads: Heads) -> None:
    tissue = heads(1, Variant.LESION_FREE)
    parts, _ = label(tissue == Tissue.WHITE)
    sizes = np.sort(np.bincount(parts.ravel())[1:])
    assert sizes[-1] > 0.9 * sizes.sum()  # callosum and brain stem connect the hemispheres
    # From above, the tissues follow in their order.
    column = tissue[::-1, tissue.shape[1] // 2, tissue.shape[2] // 2 + 8]
    first = {kind: int(np.argmax(column == kind)) for kind in (Tissue.FAT, Tissue.BONE, Tissue.GREY, Tissue.WHITE)}
    assert first[Tissue.FAT] < first[Tissue.BONE] < first[Tissue.GREY] < first[Tissue.WHITE]


def test_heads_do_not_touch_the_sides_of_their_grid() -> None:
    for seed in range(3):
        tissue = grow_head(np.random.default_rng(200 + seed), Variant.LESION_FREE, 6.0)
        for side in (tissue[-1], tissue[:, 0], tissue[:, -1], tissue[..., 0], tissue[..., -1]):
            assert np.count_nonzero(side) < 0.01 * side.size


@pytest.mark.parametrize("variant", list(Variant))
def test_each_variant_has_its_lesion(heads: Heads, variant: Variant) -> None:
    found = [heads(seed, variant) for seed in range(2)]
    enhancing = [volume_ml(tissue, Tissue.ENHANCING) for tissue in found]
    core = [volume_ml(tissue, *CORE) for tissue in found]
    cavity = [volume_ml(tissue, Tissue.CAVITY) for tissue in found]
    match variant:
        case Variant.LESION_FREE:
            assert not any(core)
        case Variant.NON_ENHANCING:
            assert not any(enhancing)
            # At the least most of a ball of 9 mm; at the most one of 24 mm that has infiltrated 7 mm further.
            assert all(0.6 * 4.19 * 0.9**3 < volume < 1.5 * 4.19 * 3.1**3 for volume in core)
        case Variant.RESECTED:
            assert all(cavity)
        case Variant.SMALL:
            assert all(0 < volume < 1.5 * 4.19 * (0.7 + 0.7 + 0.2) ** 3 for volume in core)
        case _:
            assert all(enhancing)
            assert not any(cavity)
            assert all(volume > 0.2 for volume in core)


@pytest.mark.parametrize("variant", [Variant.UNIFOCAL, Variant.MULTIFOCAL])
def test_tumour_replaces_brain_only(heads: Heads, variant: Variant) -> None:
    tissue = heads(0, variant)
    lesion = np.isin(tissue, (Tissue.OEDEMA, *CORE))
    healthy = heads(0, Variant.LESION_FREE)
    # The heads differ by the mass effect, which never moves skull and skin.
    outside = np.isin(healthy, (Tissue.BONE, Tissue.MARROW, Tissue.FAT, Tissue.MUSCLE, Tissue.AIR))
    assert not lesion[outside].any()
    assert np.array_equal(tissue[outside], healthy[outside])
    assert (tissue == Tissue.GREY).sum() > 0.8 * (healthy == Tissue.GREY).sum()


def test_rims_enclose_necrosis(heads: Heads) -> None:
    for seed in range(2):
        tissue = heads(seed, Variant.UNIFOCAL)
        necrosis = np.argwhere(tissue == Tissue.NECROSIS)
        around = {tuple(place + step) for place in necrosis for step in (*np.eye(3, dtype=int), *-np.eye(3, dtype=int))}
        kinds = [tissue[place] for place in around]
        bare = sum(kind in (Tissue.WHITE, Tissue.OEDEMA) for kind in kinds)
        assert bare <= 0.1 * len(kinds)


def test_the_same_generator_grows_the_same_head(heads: Heads) -> None:
    again = grow_head(np.random.default_rng(1), Variant.MULTIFOCAL, SPACING)
    assert np.array_equal(again, heads(1, Variant.MULTIFOCAL))
    assert not np.array_equal(again, heads(0, Variant.MULTIFOCAL))
