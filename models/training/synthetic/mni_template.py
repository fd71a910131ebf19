"""An average brain as a source of anatomy: the MNI ICBM 152 tissue maps that nilearn carries. Knows no tumours.

Fonov et al. 2011, NeuroImage 54:313 (ICBM 2009a nonlinear symmetric). The maps say how much of a voxel is grey or white
matter, averaged over 152 people; a head draws its own thresholds from them, so that cortex and sulci differ in width.
"""

import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_closing, distance_transform_edt, gaussian_filter
from torch import Tensor
from torch.nn import functional

from models.training.synthetic.fields import Coordinates, Field

_FILES = {name: f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz" for name in ("t1", "gm", "wm")}
_MIDDLE_RAS_MM = (0.0, -16.0, 11.0)
"""MNI coordinates of what `anatomy` calls the middle of the brain."""
_SIZE = 1.06
"""How much larger the template's brain is than the painted one."""


class TemplateMissing(RuntimeError):
    """The maps are not installed."""


@dataclass(frozen=True, slots=True)
class TemplateFields:
    """What the maps say at each place asked for; every field is (slices, rows, columns)."""

    grey: Field
    """Share of grey matter, 0 to 1."""
    white: Field
    """Share of white matter, 0 to 1."""
    hull: Field
    """Distance to the surface that wraps the brain over its sulci, millimetres, negative inside."""
    ventricles: Field
    """Distance to the walls of the ventricles, millimetres, negative inside them."""


def look_up(at: Coordinates) -> TemplateFields:
    """The maps at these places, trilinear. Raises TemplateMissing."""
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
    # Beyond the template's edge the distance goes on growing.
    beyond = torch.stack([value.abs() for value in unit]).sub_(1).clamp_(min=0).amax(0).numpy() * 90
    return TemplateFields(grey, white, (hull + beyond) / _SIZE, ventricles / _SIZE)


@cache
def _maps() -> tuple[Tensor, tuple[float, float, float]]:
    """(grey, white, hull, ventricles; x, y, z) at 1 mm, and the place of the first voxel (RAS, mm)."""
    folder = _folder()
    import nibabel

    images = {name: nibabel.load(folder / file) for name, file in _FILES.items()}
    affine = images["t1"].affine
    if not np.allclose(affine[:3, :3], np.eye(3)):
        raise TemplateMissing("nilearn's MNI template has another grid than expected; install glionode[train].")
    t1, grey, white = (np.asarray(images[name].dataobj, dtype=np.float32) / 255 for name in ("t1", "gm", "wm"))
    brain = _closed(t1 > 0)
    hull = gaussian_filter(_signed_distance(brain), 2.5)  # the dura is smooth
    fluid = gaussian_filter(1 - grey - white, 0.7) > 0.5
    ventricles = _signed_distance(fluid & (hull < -18) & _central(brain.shape, affine[:3, 3]))
    stack = torch.from_numpy(np.stack((grey, white, hull, ventricles)))
    x, y, z = (float(value) for value in affine[:3, 3])
    return stack, (x, y, z)


def _folder() -> Path:
    found = importlib.util.find_spec("nilearn")
    if found is None or found.origin is None or importlib.util.find_spec("nibabel") is None:
        raise TemplateMissing("Heads of the average brain need nilearn, which is not here; install glionode[train].")
    return Path(found.origin).parent / "datasets" / "data"


def _central(shape: tuple[int, ...], origin: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where the ventricles can be: within 45 mm of the midline, above the skull base."""
    x, _, z = np.ix_(*(np.arange(size) + start for size, start in zip(shape, origin, strict=True)))
    return np.broadcast_to((np.abs(x) < 45) & (z > -45), shape)


def _closed(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask with its sulci filled, on the grid of the mask; done at 3 mm, which the dura does not follow closer."""
    coarse = np.pad(mask[::3, ::3, ::3], 6)
    closed = binary_closing(coarse, iterations=5)[6:-6, 6:-6, 6:-6]
    tensor = torch.from_numpy(closed.astype(np.float32))[None, None]
    fine = functional.interpolate(tensor, size=mask.shape, mode="trilinear", align_corners=True)[0, 0].numpy()
    return np.asarray((fine > 0.5) | mask)


def _signed_distance(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Millimetres to the edge of a mask at 1 mm, negative inside; measured at 2 mm."""
    coarse = mask[::2, ::2, ::2]
    distance = 2 * (distance_transform_edt(~coarse) - distance_transform_edt(coarse))
    tensor = torch.from_numpy(distance.astype(np.float32))[None, None]
    return functional.interpolate(tensor, size=mask.shape, mode="trilinear", align_corners=True)[0, 0].numpy()
