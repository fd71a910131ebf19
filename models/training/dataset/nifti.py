"""Read and write NIfTI files.

With nibabel, because ITK reads every NaN of a NIfTI file as 0, which is a valid value here.
"""

import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from pipeline.volume import Geometry

_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Maps LPS to RAS and back."""
_GZIP = b"\x1f\x8b"
_TO_INDEX = np.eye(4)[:, [2, 1, 0, 3]]
"""(slice, row, column) to NIfTI's (column, row, slice) and back."""


def read_nifti(path: Path) -> tuple[NDArray[Any], Geometry]:
    """Return the voxels (slices, rows, columns) of a NIfTI file and their grid, without a frame of reference UID.

    The grid is that of the sform if there is one, else of the qform. Raises OSError if the file is not a NIfTI volume,
    has no grid at all, or has a qform that shows right as left, front as back or up as down against its sform.
    """
    content = path.read_bytes()
    if not content:
        raise OSError(f"{path.name} is an empty file")
    try:
        # The whole stream, for the checksum at its end, which nibabel does not reach.
        content = gzip.decompress(content) if content.startswith(_GZIP) else content
        image = nibabel.nifti1.Nifti1Image.from_bytes(content)
        voxels = np.asanyarray(image.dataobj)
    except Exception as exc:
        raise OSError(f"{path.name} is not a readable NIfTI file") from exc
    _refuse_two_orientations(image, path.name)
    if voxels.ndim == 4 and voxels.shape[3] == 1:
        voxels = voxels[..., 0]
    if voxels.ndim != 3 or image.affine is None:
        raise OSError(f"{path.name} has {voxels.ndim} axes instead of 3")
    voxels = np.ascontiguousarray(voxels.T)
    return voxels, Geometry.from_affine(_TO_RAS @ image.affine @ _TO_INDEX, voxels.shape, "")


def _refuse_two_orientations(image: nibabel.nifti1.Nifti1Image, name: str) -> None:
    """Raise OSError if sform and qform disagree on the direction of an axis, or if neither is there.

    Some programs read the one, some the other, and a mask that was drawn in one would be mirrored in the other. A shift
    or a small rotation between them is usual after a registration, and shows on the grids of a case.
    """
    (qform, q_code), (sform, s_code) = (image.header.get_qform(coded=True), image.header.get_sform(coded=True))
    if not q_code and not s_code:
        raise OSError(f"{name} has neither sform nor qform, so where its voxels lie is not known")
    if q_code and s_code and nibabel.aff2axcodes(qform) != nibabel.aff2axcodes(sform):
        shown = ["".join(nibabel.aff2axcodes(affine)) for affine in (sform, qform)]
        raise OSError(
            f"{name} has axes {shown[0]} by its sform and {shown[1]} by its qform, so left and right are not sure"
        )


def write_nifti(voxels: NDArray[Any], geometry: Geometry, path: Path) -> None:
    """Write voxels (slices, rows, columns) and their grid, and nothing else. Raises OSError."""
    affine = _TO_RAS @ geometry.affine @ _TO_INDEX
    image = nibabel.nifti1.Nifti1Image(np.asarray(voxels).T, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)  # 1: scanner coordinates; some programs read the sform, others the qform
    image.to_filename(path)
