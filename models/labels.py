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
    """Place in the registry; it belongs to the label, in every package and result. In a SEG, segments are numbered
    from 1 without gaps (PS3.3 C.8.20.2), and the tracking UID says which label each is."""
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
TUMOUR_CORE = Label(4, "tumour_core", "Tumour core", Role.T1CE, (190, 80, 200))
WHOLE_TUMOUR = Label(5, "whole_tumour", "Whole tumour", Role.FLAIR, (60, 190, 90))
NECROTIC_CORE = Label(6, "necrotic_core", "Necrotic core", Role.T1CE, (150, 110, 70))
RESECTION_CAVITY = Label(7, "resection_cavity", "Resection cavity", Role.T1CE, (80, 200, 210))

PAPER_LABELS = (ENHANCING_TUMOUR, ADC_ABNORMALITY, FLAIR_HYPERINTENSITY)
"""The three labels of Wan et al. 2024, in the order of their numbers."""
LABELS = (*PAPER_LABELS, TUMOUR_CORE, WHOLE_TUMOUR, NECROTIC_CORE, RESECTION_CAVITY)
"""The registry: every label that a model package may have, in the order of their numbers, which is also the order of
array axes called `labels`. Tumour core (enhancing tumour and necrosis) and whole tumour are those of BraTS (Menze et
al. 2015, https://doi.org/10.1109/TMI.2014.2377694)."""


def find_label(name: str) -> Label | None:
    """Return the label of the registry that is called `name`; None if there is none."""
    return next((label for label in LABELS if label.name == name), None)
