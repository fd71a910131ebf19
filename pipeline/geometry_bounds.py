"""Refuse geometries that no scan of a head has.

Everything after reading believes spacing and extent: with a PixelSpacing of a millionth of a millimetre a tumour has
0.0 ml. The bounds are wide, so that no clinical series is refused; what they let through is measured by
`pipeline.coverage`.
"""

import numpy as np

from models.labels import Role
from pipeline.errors import GeometryImpossible
from pipeline.volume import Geometry

PIXEL_MM = (0.1, 6.0)
"""A matrix of 1024 over 200 mm has 0.2 mm, a diffusion series of 64 over 240 mm has 3.75 mm."""
SLICE_MM = (0.1, 15.0)
"""Interpolated 3D series have 0.3 mm; slices of 5 mm with a gap of as much again have 10 mm."""
IN_PLANE_MM = (60.0, 600.0)
"""Field of view. A head is 150 mm wide, and images may be cropped to the brain; bodies of magnets are 600 to 700 mm."""
STACK_MM = (30.0, 600.0)
"""From the outer face of the first slice to that of the last. A slab of a broken-off scan is left to coverage."""
FEWEST_PIXELS = 24
"""Rows or columns; diffusion series have 64 or more, before cropping to the brain."""
FEWEST_SLICES = 5
LARGEST_ANISOTROPY = 60.0
"""Largest spacing over the smallest: 0.2 mm pixels in slices 10 mm apart have 50."""
LARGEST_PIXEL_RATIO = 4.0
"""Height of a pixel over its width, or the reverse; more than 2 does not occur."""
MOST_VOXELS = 2**28
"""A GiB of float32 values; 0.4 mm in every direction over a whole head are a third of it."""

_SENSE = "The header is wrong, or it is no scan of a head. Send it with a correct header, or choose another series."


def check_head_geometry(series_uid: str, role: Role, geometry: Geometry) -> None:
    """Raise GeometryImpossible if spacing, extent or size are none of a scan of a head."""
    for problem in _problems(geometry):
        raise GeometryImpossible(f"Series {series_uid} ({role}): {problem}. {_SENSE}", role)


def _problems(geometry: Geometry) -> list[str]:
    if not np.isfinite(geometry.affine).all():
        return ["its positions or spacings are not finite numbers"]
    slices, rows, columns = geometry.shape
    slice_mm, row_mm, column_mm = geometry.spacing_mm
    finest = max(min(geometry.spacing_mm), 1e-9)
    bounded = (
        (f"its pixels are {row_mm:.4g} x {column_mm:.4g} mm", (row_mm, column_mm), PIXEL_MM),
        (f"its slices are {slice_mm:.4g} mm apart", (slice_mm,), SLICE_MM),
        (
            f"its images show {rows * row_mm:.4g} x {columns * column_mm:.4g} mm",
            (rows * row_mm, columns * column_mm),
            IN_PLANE_MM,
        ),
        (f"its {slices} slices extend over {slices * slice_mm:.4g} mm", (slices * slice_mm,), STACK_MM),
    )
    found = [
        f"{words}, and scans of heads have {low:g} to {high:g} mm"
        for words, values, (low, high) in bounded
        if not all(low <= value <= high for value in values)
    ]
    if min(rows, columns) < FEWEST_PIXELS:
        found.append(f"its images have {rows} x {columns} pixels, fewer than any scan of a head")
    if slices < FEWEST_SLICES:
        found.append(f"its {slices} slices are too few for a head")
    if max(row_mm, column_mm) > LARGEST_PIXEL_RATIO * min(row_mm, column_mm):
        found.append(f"its pixels are {row_mm:.4g} x {column_mm:.4g} mm, which is no shape of a pixel of MR")
    if max(geometry.spacing_mm) > LARGEST_ANISOTROPY * finest:
        found.append(f"its voxels are {slice_mm:.4g} x {row_mm:.4g} x {column_mm:.4g} mm, which is no shape of MR")
    if slices * rows * columns > MOST_VOXELS:
        found.append(f"its {slices} x {rows} x {columns} voxels are more than a node can hold in memory")
    return found
