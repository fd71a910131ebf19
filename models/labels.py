"""Define the names that models and node share: the roles of MR series and the three labels."""

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """The role of an MR series. A model package names its input channels by these roles."""

    T1 = "T1"
    T1CE = "T1CE"
    T2 = "T2"
    FLAIR = "FLAIR"
    ADC = "ADC"
    DWI = "DWI"


@dataclass(frozen=True, slots=True)
class Label:
    """A label that the node writes. Labels overlap: each has its own mask and is not a value in a label map."""

    number: int
    """Segment number in the SEG on the T1CE grid (PS3.3 C.8.20.2: numbers start at 1)."""
    name: str
    """Name in model packages and reports."""
    title: str
    """Segment label, as shown by viewers."""
    defined_on: Role
    """The series on which radiologists draw it (Wan et al. 2024, "Tumor Annotation")."""
    colour_rgb: tuple[int, int, int]
    """Recommended display colour, 0-255 each."""


ENHANCING_TUMOUR = Label(1, "enhancing_tumour", "Enhancing tumour", Role.T1CE, (230, 60, 50))
ADC_ABNORMALITY = Label(2, "adc_abnormality", "ADC abnormality", Role.ADC, (60, 120, 240))
FLAIR_HYPERINTENSITY = Label(3, "flair_hyperintensity", "FLAIR hyperintensity", Role.FLAIR, (240, 200, 40))

LABELS = (ENHANCING_TUMOUR, ADC_ABNORMALITY, FLAIR_HYPERINTENSITY)
"""All labels in the order of their numbers, which is also the order of array axes called `labels`."""
