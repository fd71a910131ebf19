"""A pydicom decoder plugin for JPEG Extended with 12 bits (PS3.5 8.2.1, process 4), by GDCM.

pydicom's own plugin for GDCM refuses more than 8 bits in this transfer syntax, and no other decoder under a permissive
licence has a plugin for it. GDCM decodes it as DCMTK does; a test holds that.
"""

import gdcm
from pydicom.pixels.decoders.base import DecodeRunner, JPEGExtended12BitDecoder
from pydicom.uid import JPEGExtended12Bit

DECODER_DEPENDENCIES = {JPEGExtended12Bit: ("gdcm>=3.2",)}
_LABEL = "glionode"


def register_decoder() -> None:
    """Make pydicom use this decoder; calling it again changes nothing."""
    if _LABEL not in JPEGExtended12BitDecoder.available_plugins:
        JPEGExtended12BitDecoder.add_plugin(_LABEL, (__name__, "decode_frame"))


def is_available(uid: str) -> bool:
    """Return whether `uid` is the transfer syntax of this plugin."""
    return uid == JPEGExtended12Bit


def decode_frame(encoded: bytes, runner: DecodeRunner) -> bytes:
    """Return the decoded samples of one frame, little endian, `runner.bits_allocated` bits each."""
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(encoded)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((runner.columns, runner.rows, 1))
    image.SetDataElement(element)
    kind = gdcm.PhotometricInterpretation.GetPIType(str(runner.photometric_interpretation))
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    syntax = gdcm.TransferSyntax.GetTSType(str(runner.transfer_syntax))
    image.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    bits = (runner.bits_allocated, runner.bits_stored, runner.bits_stored - 1, runner.pixel_representation)
    image.SetPixelFormat(gdcm.PixelFormat(runner.samples_per_pixel, *bits))
    decoded: str = image.GetBuffer()
    return decoded.encode("utf-8", "surrogateescape")  # GDCM returns bytes as a str
