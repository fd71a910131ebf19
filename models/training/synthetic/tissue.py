"""Define the tissues of synthetic heads."""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

TissueMap = NDArray[np.uint8]
"""A `Tissue` per voxel, (slices, rows, columns)."""


class Tissue(IntEnum):
    """The tissue of a voxel."""

    AIR = 0
    MUSCLE = 1
    FAT = 2
    BONE = 3
    MARROW = 4
    CSF = 5
    GREY = 6
    WHITE = 7
    DEEP_GREY = 8
    VESSEL = 9
    DURA = 10
    CHOROID = 11
    MUCOSA = 12
    VITREOUS = 13
    SPOT = 14
    """Age-related white matter change: bright on FLAIR, but no tumour."""
    ENHANCING = 15
    NECROSIS = 16
    NON_ENHANCING = 17
    OEDEMA = 18
    CAVITY = 19
    """Fluid in place of resected tumour: like CSF, sometimes with more protein."""
    BLOOD = 20
    """Haemorrhage inside a lesion: bright on T1 without contrast, low ADC."""
