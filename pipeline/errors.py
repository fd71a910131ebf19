"""What can fail between headers and a result. Knows no DICOM library, no disk and no network.

GlionodeError                 everything the node itself raises; its text is a sentence for a person
├── StudyUnreadable           nothing in this place is a study that can be read
├── SeriesUnreadable          a chosen series does not become a volume (every message names the series UID)
│   ├── IrregularSlices       slices unevenly spaced
│   │   ├── SlicesMissing     a gap where slices were left out
│   │   └── GantryShear       slices shifted against each other by a tilted gantry
│   ├── PlaceUnknown          no position, orientation or pixel spacing, or none that makes sense
│   ├── RepeatedPositions     several images at one position and no header that tells them apart
│   ├── MixedOrientations     two orientations in one series
│   ├── StrayImage            an image whose size or kind differs from its series
│   ├── TooFewSlices          one lonely slice is no volume
│   ├── ColourImages          colour has no intensity to measure
│   ├── MosaicImages          many slices in one image
│   ├── PixelsMissing         no pixel data, or fewer than the header says
│   ├── PixelsUndecodable     no decoder for the transfer syntax, or a stream that does not decode
│   └── UnitsUnknown          an ADC map whose values fit no known unit
├── ModelUnusable             a model package that is broken, does not verify, or asks for what the node has not
├── OutputRefused             a result that fails our own last look, or cannot be written
└── SettingsWrong             a setting that is unknown, contradictory or unsafe

An outcome that is no failure, such as a study without an ADC map, is a value (`choose.NotEligible`), not an exception.
No message carries a patient's name, ID, a date or free text from a header; UIDs and counts only.
"""


class GlionodeError(Exception):
    """Base of everything that the node raises itself."""


class StudyUnreadable(GlionodeError):
    """Nothing in this place is a study that can be read."""


class SeriesUnreadable(GlionodeError):
    """A chosen series does not become a volume."""


class IrregularSlices(SeriesUnreadable):
    """Slices are unevenly spaced."""


class SlicesMissing(IrregularSlices):
    """A gap where slices were left out."""


class GantryShear(IrregularSlices):
    """Slices are shifted against each other: the gantry was tilted."""


class PlaceUnknown(SeriesUnreadable):
    """Images lack position, orientation or pixel spacing, or have none that makes sense."""


class RepeatedPositions(SeriesUnreadable):
    """Several images stand at one position and no header tells them apart."""


class MixedOrientations(SeriesUnreadable):
    """One series holds two orientations."""


class StrayImage(SeriesUnreadable):
    """An image's size or kind differs from the rest of its series."""


class TooFewSlices(SeriesUnreadable):
    """One lonely slice is no volume."""


class ColourImages(SeriesUnreadable):
    """Images are in colour, which has no intensity to measure."""


class MosaicImages(SeriesUnreadable):
    """Many slices in one image."""


class PixelsMissing(SeriesUnreadable):
    """No pixel data, or fewer than the header says."""


class PixelsUndecodable(SeriesUnreadable):
    """No decoder for the transfer syntax, or a stream that does not decode."""


class UnitsUnknown(SeriesUnreadable):
    """An ADC map's values fit no known unit."""


class ModelUnusable(GlionodeError):
    """A model package is broken, does not verify, or asks for what the node has not."""


class OutputRefused(GlionodeError):
    """A result fails our own last look, or cannot be written."""


class SettingsWrong(GlionodeError):
    """A setting is unknown, contradictory or unsafe."""
