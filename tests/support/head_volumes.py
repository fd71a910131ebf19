"""Volumes of a head whose shape is known: an ellipsoid with a neck, on the grids of usual series."""

import numpy as np

from pipeline.volume import Geometry, Volume

SAGITTAL = Geometry(  # rows go down from 110 mm above the middle of the head to 120 mm below it, beyond neck and face
    (36, 46, 46), (-87.5, -112.5, 110.0), (5.0, 0.0, 0.0), (0.0, 0.0, -5.0), (0.0, 5.0, 0.0), "1.2.3"
)
AXIAL = Geometry.axial((32, 64, 64), (5.0, 3.5, 3.5), (0, 0, 15), "1.2.3")  # from 62.5 mm below to 92.5 above
TOP_MM = 85.0


def head(geometry: Geometry, masked: bool = False) -> Volume:
    """An ellipsoid of 150 x 190 x 170 mm with a neck; as an ADC map, NaN outside of a brain 14 mm within it."""
    index = np.stack(np.meshgrid(*(np.arange(size) for size in geometry.shape), indexing="ij"))
    x, y, z = np.einsum("ij,jsrc->isrc", geometry.affine[:3, :3], index) + geometry.affine[:3, 3, None, None, None]
    if masked:
        brain = (x / 61) ** 2 + (y / 81) ** 2 + ((z - 5) / 66) ** 2 < 1
        return Volume(np.where(brain, 900, np.nan).astype(np.float32), geometry)
    inside = ((x / 75) ** 2 + (y / 95) ** 2 + (z / 85) ** 2 < 1) | ((z < -40) & (x**2 + (y - 20) ** 2 < 50**2))
    # A dark cyst of 50 mm is no blank part.
    inside &= (x - 35) ** 2 + y**2 + (z - 20) ** 2 > 25**2
    return Volume(np.where(inside, 500, 3).astype(np.float32), geometry)
