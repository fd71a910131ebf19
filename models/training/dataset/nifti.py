"""Voxels with their place to NIfTI and back. Knows no cases, roles or labels.

By nibabel, because ITK reads every NaN of a NIfTI as 0, and 0 is a value where NaN is none.
"""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from pipeline.volume import Geometry

_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""LPS to RAS and back: x to the right, y to the front."""
_TO_INDEX = np.eye(4)[:, [2, 1, 0, 3]]
"""(slice, row, column) to NIfTI's (column, row, slice) and back."""


def read_nifti(path: Path) -> tuple[NDArray[Any], Geometry]:
    """The voxels (slice, row, column) of a NIfTI file, and where they stand. Raises OSError where it is no such file.

    The file does not say in which frame of reference.
    """
    try:
        image = nibabel.nifti1.Nifti1Image.from_filename(path)
        voxels = np.asanyarray(image.dataobj)
    except Exception as exc:
        raise OSError(f"{path.name} is no NIfTI file that can be read") from exc
    if voxels.ndim == 4 and voxels.shape[3] == 1:
        voxels = voxels[..., 0]
    if voxels.ndim != 3 or image.affine is None:
        raise OSError(f"{path.name} has {voxels.ndim} axes, and a volume has 3")
    voxels = np.ascontiguousarray(voxels.T)
    slices, rows, columns = voxels.shape
    return voxels, Geometry.from_affine(_TO_RAS @ image.affine @ _TO_INDEX, (slices, rows, columns), "")


def write_nifti(voxels: NDArray[Any], geometry: Geometry, path: Path) -> None:
    """Write voxels (slice, row, column) with their place and nothing else. Raises OSError."""
    affine = _TO_RAS @ geometry.affine @ _TO_INDEX
    image = nibabel.nifti1.Nifti1Image(np.asarray(voxels).T, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)  # 1: scanner coordinates; programs differ in which of the two they look at
    image.to_filename(path)
