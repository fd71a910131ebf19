"""Paint a brain from the tissue maps of an average brain, with random thresholds for every head.

The maps are the ICBM 2009a nonlinear symmetric ones (Fonov et al. 2011, NeuroImage 54:313), part of nilearn. They
give the share of grey and white matter in a voxel, averaged over 152 people. Random thresholds vary the width of cortex
and sulci.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_closing, distance_transform_edt, gaussian_filter
from torch import Tensor
from torch.nn import functional

from models.training.synthetic.brain_details import callosum, paint_age_changes, paint_vessels
from models.training.synthetic.fields import REFINEMENT, Coordinates, Field, ellipsoid, noise, refine
from models.training.synthetic.nilearn_data import NilearnMissing, nilearn_data
from models.training.synthetic.skull_and_face import PaintedProportions, paint_shell
from models.training.synthetic.tissue import Tissue, TissueMap

_FILES = {name: f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz" for name in ("t1", "gm", "wm")}
_MIDDLE_RAS_MM = (0.0, -16.0, 11.0)
"""MNI coordinates of the middle of the brain, which is the origin in `anatomy`."""
_SIZE = 1.06
"""Size of the template relative to the procedural brain."""


@dataclass(frozen=True, slots=True)
class TemplateFields:
    """Values of the maps at given coordinates; every field is (slices, rows, columns)."""

    grey: Field
    """Share of grey matter, 0 to 1."""
    white: Field
    """Share of white matter, 0 to 1."""
    hull: Field
    """Distance in millimetres to the hull of the brain, which bridges the sulci; negative inside."""
    ventricles: Field
    """Distance in millimetres to the walls of the ventricles, negative inside."""


def paint_template_brain(
    generator: np.random.Generator,
    outer: Coordinates,
    at: Coordinates,
    proportions: PaintedProportions,
    spacing_mm: float,
) -> TissueMap:
    """Paint all tissues of a head except the tumour.

    `outer` are the coordinates for skull and skin, `at` those for the brain, displaced by the mass effect.
    Raises NilearnMissing.
    """
    coarse_mm = spacing_mm * REFINEMENT
    hull = refine(sample_template(outer).hull) - proportions.gap_mm
    tissue = paint_shell(generator, outer, hull, proportions, coarse_mm)
    inside = hull < -0.8
    maps = sample_template(Coordinates(refine(at.x), refine(at.y), refine(at.z)))
    uneven = refine(noise(generator, at.x.shape, coarse_mm, 14))
    # The average blurs the sulci: where a third of a voxel is fluid, a single person has a sulcus or none.
    solid = 0.66 + 0.12 * proportions.atrophy + float(generator.uniform(-0.05, 0.05)) + 0.05 * uneven
    brain = inside & (maps.grey + maps.white > solid)
    whiter = float(np.exp(generator.normal(0, 0.2))) * (1 + 0.12 * uneven)
    tissue[brain] = Tissue.GREY
    tissue[brain & (maps.white > whiter * maps.grey)] = Tissue.WHITE
    fold = at.mirrored()
    central = refine(ellipsoid(fold, (15, 2, 0), (24, 34, 18))) < 0
    tissue[brain & central & (tissue == Tissue.GREY)] = Tissue.DEEP_GREY
    paint_age_changes(generator, tissue, at, maps.ventricles, proportions, coarse_mm)
    wet = inside & (maps.ventricles < -0.5) & (tissue == Tissue.CSF)
    tissue[wet & (refine(ellipsoid(fold, (20, 22, 6), (5, 12, 6))) < 0) & (uneven > 0)] = Tissue.CHOROID
    paint_vessels(generator, tissue, outer, refine(callosum(outer)), hull, coarse_mm)
    return tissue


def sample_template(at: Coordinates) -> TemplateFields:
    """Interpolate the maps at these coordinates, trilinearly. Raises NilearnMissing."""
    volume, origin = _maps()
    sizes = volume.shape[1:]
    # The template is RAS with axes x, y, z; heads are LPS.
    ras = (-at.x * _SIZE, -at.y * _SIZE, at.z * _SIZE)
    unit = [
        torch.from_numpy(2 * (place + middle - start) / (size - 1) - 1)
        for place, middle, start, size in zip(ras, _MIDDLE_RAS_MM, origin, sizes, strict=True)
    ]
    grid = torch.stack((unit[2], unit[1], unit[0]), dim=-1)[None].float()
    grey, white, hull, ventricles = functional.grid_sample(
        volume[None], grid, padding_mode="border", align_corners=True
    )[0].numpy()
    # Extrapolate the distance beyond the edge of the template.
    beyond = torch.stack([value.abs() for value in unit]).sub_(1).clamp_(min=0).amax(0).numpy() * 90
    return TemplateFields(grey, white, (hull + beyond) / _SIZE, ventricles / _SIZE)


@cache
def _maps() -> tuple[Tensor, tuple[float, float, float]]:
    """Return (grey, white, hull, ventricles; x, y, z) at 1 mm, and the position of the first voxel (RAS, mm)."""
    folder = nilearn_data()
    import nibabel

    images = {name: nibabel.load(folder / file) for name, file in _FILES.items()}
    affine = images["t1"].affine
    if not np.allclose(affine[:3, :3], np.eye(3)):
        raise NilearnMissing("nilearn's MNI template has another grid than expected. Install glionode[train].")
    t1, grey, white = (np.asarray(images[name].dataobj, dtype=np.float32) / 255 for name in ("t1", "gm", "wm"))
    brain = _closed(t1 > 0)
    hull = gaussian_filter(_signed_distance(brain), 2.5)  # the dura is smooth
    fluid = gaussian_filter(1 - grey - white, 0.7) > 0.5
    ventricles = _signed_distance(fluid & (hull < -18) & _central(brain.shape, affine[:3, 3]))
    stack = torch.from_numpy(np.stack((grey, white, hull, ventricles)))
    x, y, z = (float(value) for value in affine[:3, 3])
    return stack, (x, y, z)


def _central(shape: tuple[int, ...], origin: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return where ventricles are possible: within 45 mm of the midline and above the skull base."""
    x, _, z = np.ix_(*(np.arange(size) + start for size, start in zip(shape, origin, strict=True)))
    return np.broadcast_to((np.abs(x) < 45) & (z > -45), shape)


def _closed(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill the sulci of a mask, with a morphological closing at 3 mm."""
    coarse = np.pad(mask[::3, ::3, ::3], 6)
    closed = binary_closing(coarse, iterations=5)[6:-6, 6:-6, 6:-6]
    tensor = torch.from_numpy(closed.astype(np.float32))[None, None]
    fine = functional.interpolate(tensor, size=mask.shape, mode="trilinear", align_corners=True)[0, 0].numpy()
    return np.asarray((fine > 0.5) | mask)


def _signed_distance(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the distance in millimetres to the edge of a mask of 1 mm voxels, negative inside; computed at 2 mm."""
    coarse = mask[::2, ::2, ::2]
    distance = 2 * (distance_transform_edt(~coarse) - distance_transform_edt(coarse))
    tensor = torch.from_numpy(distance.astype(np.float32))[None, None]
    return functional.interpolate(tensor, size=mask.shape, mode="trilinear", align_corners=True)[0, 0].numpy()
