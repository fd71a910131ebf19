"""The transfer syntaxes that the pipeline reads, the best first (PS3.5 section 10 and annex A, PS3.6 table A-1)."""

from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

UNCOMPRESSED = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian)
"""Explicit VR first: it says the type of private elements, too."""
LOSSLESS = (
    RLELossless,
    JPEGLosslessSV1,
    JPEGLossless,
    JPEGLSLossless,
    JPEG2000Lossless,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
)
LOSSY = (JPEGLSNearLossless, JPEG2000, HTJ2K, JPEGExtended12Bit, JPEGBaseline8Bit)
"""JPEG 2000 may be lossless here, too. JPEG Baseline comes last: it has 8 bits."""

READABLE = tuple(str(uid) for uid in (*UNCOMPRESSED, *LOSSLESS, *LOSSY))
"""All that can be read, the best first. Private ones, video, JPIP and what is not known are not among them."""

GE_BIG_ENDIAN_PIXELS = "1.2.840.113619.5.2"
"""GE's private syntax: the header is Implicit VR Little Endian, pixels of 16 bits are big endian, as GDCM reads it.

Files of it are read, but the listener does not accept it: its senders can convert.
"""
BIG_ENDIAN = frozenset({str(ExplicitVRBigEndian), GE_BIG_ENDIAN_PIXELS})
"""Pixels are big endian."""
DECODABLE = frozenset({*READABLE, GE_BIG_ENDIAN_PIXELS})
