"""Define the errors that can occur between reading headers and writing a result.

GlionodeError                 base of all errors; the text is a sentence for people
├── StudyUnreadable           there is no study that can be read
├── SeriesUnreadable          a chosen series cannot become a volume (every message names the series UID)
│   ├── IrregularSlices       slices unevenly spaced
│   │   ├── SlicesMissing     a gap where slices were left out
│   │   └── GantryShear       slices shifted against each other by a tilted gantry
│   ├── PlaceUnknown          position, orientation or pixel spacing is missing or invalid
│   ├── RepeatedPositions     several images at one position and no header that tells them apart
│   ├── MixedOrientations     two orientations in one series
│   ├── StrayImage            an image's size or kind differs from its series
│   ├── FramesOfReferenceDiffer  the images of a series are not in one frame of reference
│   ├── TooFewSlices          a single slice is no volume
│   ├── ColourImages          colour has no intensity to measure
│   ├── MosaicImages          many slices in one image
│   ├── PixelsMissing         no pixel data, or fewer than the header says
│   ├── PixelsUndecodable     no decoder for the transfer syntax, or a stream that does not decode
│   ├── PatientsDiffer        the images are of two patients
│   ├── InstanceUidsRepeated  one SOP Instance UID on two different images
│   ├── PaddingDoubtful       the declared pixel padding takes the head with it
│   ├── AirBright             air is brighter than the head
│   ├── UnitsUnknown          the values of an ADC map fit no known unit
│   └── SeriesUnsuitable      a series was read, but does not show the head as its role needs it
│       ├── GeometryImpossible    spacing, extent or size that no scan of a head has
│       ├── HeadNotCovered        it shows too little of the head that the others show
│       └── PlaceUncertain        neither header nor registration tells where it lies in T1CE's coordinates
├── ModelUnusable             a model package is broken, does not verify, or needs what the node does not have
├── OutputRefused             a result fails its final check, or cannot be written
└── SettingsWrong             a setting is unknown, contradictory or unsafe

Outcomes that are no failures, such as a study without an ADC map, are values (`choose.NotEligible`), not exceptions.
Messages hold UIDs and counts, and never a patient's name, ID, a date or free text from a header.
"""

from models.labels import Role

EXCLUDE = "Export it anew with complete headers, or exclude it by a rule (choose.rules_file) so that another is taken."
"""What to do about a series that stays unusable however often it is sent."""


class GlionodeError(Exception):
    """Base of all errors that the node raises itself."""


class StudyUnreadable(GlionodeError):
    """There is no study that can be read."""


class SeriesUnreadable(GlionodeError):
    """A chosen series cannot become a volume."""


class IrregularSlices(SeriesUnreadable):
    """Slices are unevenly spaced."""


class SlicesMissing(IrregularSlices):
    """Slices are missing: there is a gap between others."""


class GantryShear(IrregularSlices):
    """Slices are shifted against each other by a tilted gantry."""


class PlaceUnknown(SeriesUnreadable):
    """The position, orientation or pixel spacing of images is missing or invalid."""


class RepeatedPositions(SeriesUnreadable):
    """Several images have the same position and no header tells them apart."""


class MixedOrientations(SeriesUnreadable):
    """A series has images of two orientations."""


class StrayImage(SeriesUnreadable):
    """An image's size or kind differs from the rest of its series."""


class FramesOfReferenceDiffer(SeriesUnreadable):
    """The images of a series are not in one frame of reference."""


class TooFewSlices(SeriesUnreadable):
    """A single slice is no volume."""


class ColourImages(SeriesUnreadable):
    """Images are in colour, which has no intensity to measure."""


class MosaicImages(SeriesUnreadable):
    """An image holds many slices side by side (a mosaic of Siemens, a grid of United Imaging)."""


class PixelsMissing(SeriesUnreadable):
    """Images have no pixel data, or less than the header says."""


class PixelsUndecodable(SeriesUnreadable):
    """There is no decoder for the transfer syntax, or the data cannot be decoded."""


class PatientsDiffer(SeriesUnreadable):
    """Images that would make one result are of two patients."""


class InstanceUidsRepeated(SeriesUnreadable):
    """Two different images have one SOP Instance UID."""


class PaddingDoubtful(SeriesUnreadable):
    """The pixel padding that headers declare takes the head with it."""


class AirBright(SeriesUnreadable):
    """The air around the head is brighter than the head."""


class UnitsUnknown(SeriesUnreadable):
    """The values of an ADC map fit no known unit."""


class SeriesUnsuitable(SeriesUnreadable):
    """A series was read, but does not show the head as its role needs it; another series of the study may."""

    def __init__(self, message: str, role: Role) -> None:
        super().__init__(message)
        self.role = role


class GeometryImpossible(SeriesUnsuitable):
    """Spacing, extent or size are none of a scan of a head."""


class HeadNotCovered(SeriesUnsuitable):
    """A series shows too little of the head that the others show."""


class PlaceUncertain(SeriesUnsuitable):
    """Neither the header of a series nor a registration tells where it lies in the coordinates of T1CE."""


class ModelUnusable(GlionodeError):
    """A model package is broken, does not verify, or needs what the node does not have."""


class OutputRefused(GlionodeError):
    """A result fails its final check, or cannot be written."""


class SettingsWrong(GlionodeError):
    """A setting is unknown, contradictory or unsafe."""
