"""What can fail between headers and a result. Knows no DICOM library, no disk and no network.

GlionodeError                 everything the node itself raises; its text is a sentence for a person
├── StudyUnreadable           nothing in this place is a study that can be read
├── SeriesUnreadable          a chosen series does not become a volume (every message names the series UID)
│   ├── IrregularSlices       slices missing, unevenly spaced, or a gantry tilt's shear
│   ├── RepeatedPositions     several images at one position and no header that tells them apart
│   ├── MixedOrientations     two orientations in one series
│   ├── StrayImage            an image whose size or kind differs from its series
│   ├── TooFewSlices          one lonely slice is no volume
│   ├── NotGreyscale          colour, or a mosaic of many slices in one image
│   ├── PixelsUnreadable      truncated or missing pixels, or no decoder for the transfer syntax
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
    """Slices are missing, unevenly spaced or sheared."""


class RepeatedPositions(SeriesUnreadable):
    """Several images stand at one position and no header tells them apart."""


class MixedOrientations(SeriesUnreadable):
    """One series holds two orientations."""


class StrayImage(SeriesUnreadable):
    """An image's size or kind differs from the rest of its series."""


class TooFewSlices(SeriesUnreadable):
    """One lonely slice is no volume."""


class NotGreyscale(SeriesUnreadable):
    """Colour images, or a mosaic of many slices in one image."""


class PixelsUnreadable(SeriesUnreadable):
    """Pixels are missing, truncated or in a transfer syntax without a decoder."""


class UnitsUnknown(SeriesUnreadable):
    """An ADC map's values fit no known unit."""


class ModelUnusable(GlionodeError):
    """A model package is broken, does not verify, or asks for what the node has not."""


class OutputRefused(GlionodeError):
    """A result fails our own last look, or cannot be written."""


class SettingsWrong(GlionodeError):
    """A setting is unknown, contradictory or unsafe."""
