"""Hold what a radiologist or an operator must know about a result beside its numbers."""

from dataclasses import dataclass
from enum import StrEnum

from models.labels import Role


class RemarkKind(StrEnum):
    """What a remark is about; scripts of sites read it from `report.json`."""

    COVERAGE = "coverage"
    """A part of the head was not seen on a series."""
    ABSENT = "absent"
    """A series that the model can do without was absent: labels are not reported, or inferred from other series."""
    EMPTY = "empty"
    """The model found no voxel of any label."""
    ALIGNMENT = "alignment"
    """How the places of two series were made to fit."""
    IDENTITY = "identity"
    """The series do not agree on whose images they are."""
    DATES = "dates"
    """The series were not acquired together."""
    REPEATED_IMAGES = "repeated_images"
    """Images that were sent more than once."""
    JOINED = "joined"
    """Several series that were read as one."""
    PIXELS = "pixels"
    """Pixels that are no value, or that were read otherwise than the header says."""
    UNITS = "units"
    """Units that the header does not give, or gives wrongly."""
    HEADERS = "headers"
    """Headers that contradict each other or the pixels."""
    EXPERIMENT = "experiment"
    """A measurement that is not validated, which the settings ask for."""


@dataclass(frozen=True, slots=True)
class Remark:
    """A sentence that goes with a result wherever it is shown: report, SR, capture and command line.

    Technical evidence belongs into the notes and reasons of a series instead.
    """

    kind: RemarkKind
    text: str
    """One sentence for a radiologist, with its full stop. No text from a header, no name, ID or date."""
    roles: tuple[Role, ...] = ()
    """The series concerned; empty for the study as a whole."""
