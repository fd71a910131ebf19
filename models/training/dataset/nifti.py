"""Read and write NIfTI files.

With nibabel, because ITK reads every NaN of a NIfTI file as 0, which is a valid value here.
"""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from pipeline.volume import Geometry

_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Maps LPS to RAS and back."""
_TO_INDEX = np.eye(4)[:, [2, 1, 0, 3]]
"""(slice, row, column) to NIfTI's (column, row, slice) and back."""


def read_nifti(path: Path) -> tuple[NDArray[Any], Geometry]:
    """Return the voxels (slices, rows, columns) of a NIfTI file and their grid, without a frame of reference UID.

    Raises OSError if the file is not a NIfTI volume.
    """
    try:
        image = nibabel.nifti1.Nifti1Image.from_filename(path)
        voxels = np.asanyarray(image.dataobj)
    except Exception as exc:
        raise OSError(f"{path.name} is not a readable NIfTI file") from exc
    if voxels.ndim == 4 and voxels.shape[3] == 1:
        voxels = voxels[..., 0]
    if voxels.ndim != 3 or image.affine is None:
        raise OSError(f"{path.name} has {voxels.ndim} axes instead of 3")
    voxels = np.ascontiguousarray(voxels.T)
    return voxels, Geometry.from_affine(_TO_RAS @ image.affine @ _TO_INDEX, voxels.shape, "")


def write_nifti(voxels: NDArray[Any], geometry: Geometry, path: Path) -> None:
    """Write voxels (slices, rows, columns) and their grid, and nothing else. Raises OSError."""
    affine = _TO_RAS @ geometry.affine @ _TO_INDEX
    image = nibabel.nifti1.Nifti1Image(np.asarray(voxels).T, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)  # 1: scanner coordinates; some programs read the sform, others the qform
    image.to_filename(path)
