"""Write a small study with the three series that the node uses and one that it does not."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.support.node import make_instance, write_instance

SLICES = 13
GAP_MM = 10.0
SIDE = 40
LARGE_SIDE = 512
"""Rows and columns of the unused series: large, so that not fetching it makes a difference."""

T1CE = {"SeriesDescription": "T1 MPRAGE post", "EchoTime": 3.0, "RepetitionTime": 1900.0, "InversionTime": 900.0}
FLAIR = {"SeriesDescription": "T2 FLAIR ax", "EchoTime": 120.0, "RepetitionTime": 9000.0, "InversionTime": 2500.0}
ADC = {"SeriesDescription": "ADC", "EchoTime": 80.0, "RepetitionTime": 6000.0}
T2 = {"SeriesDescription": "T2 TSE ax", "EchoTime": 100.0, "RepetitionTime": 5000.0}
SERIES = {1: T1CE, 2: FLAIR, 3: ADC, 4: T2}
USED_SERIES = (1, 2, 3)


def _ball(side: int, number: int, index: int, slices: int) -> NDArray[np.uint16]:
    """Return a slice of a ball of 180 mm in air, with values that differ between all images of the study."""
    across = (np.arange(side) - (side - 1) / 2) * 200 / side
    up = (index - (slices - 1) / 2) * GAP_MM
    inside = across[:, None] ** 2 + across**2 + up**2 < 90**2
    return (inside * (1000 + 20 * number + index)).astype("<u2")


def write_small_study(study: str, folder: Path, slices: int = SLICES) -> list[Path]:
    """Write a study; the series 1 to 3 are T1CE, FLAIR and ADC, the fourth is T2."""
    paths = []
    for number, fields in SERIES.items():
        for index in range(slices):
            instance = make_instance(study, f"{study}.{number}", number=index + 1)
            side = SIDE if number in USED_SERIES else LARGE_SIDE
            instance.SOPInstanceUID = f"{study}.{number}.{index + 1}"
            instance.SeriesNumber = number
            instance.ImageType = ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"] if number == 3 else ["ORIGINAL", "PRIMARY"]
            instance.ScanningSequence = "EP" if number == 3 else "GR" if number == 1 else "SE"
            instance.FrameOfReferenceUID = f"{study}.9"
            instance.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
            instance.ImagePositionPatient = [-100, -100, GAP_MM * index]
            instance.PixelSpacing = [200 / side, 200 / side]
            instance.SliceThickness = GAP_MM
            instance.Manufacturer = "SIEMENS"
            instance.Rows = instance.Columns = side
            instance.PixelData = _ball(side, number, index, slices).tobytes()
            if number == 1:
                instance.ContrastBolusAgent = "Gadovist"
            for keyword, value in fields.items():
                setattr(instance, keyword, value)
            paths.append(write_instance(instance, folder))
    return paths
