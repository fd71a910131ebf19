"""Each transfer syntax that counts as readable has a decoder, and each that has a decoder counts as readable."""

from pydicom.pixels import get_decoder
from pydicom.uid import UID, AllTransferSyntaxes

from pipeline.jpeg_extended import register_decoder
from pipeline.transfer_syntaxes import LOSSY, READABLE, UNCOMPRESSED


def has_decoder(uid: str) -> bool:
    try:
        return get_decoder(UID(uid)).is_available
    except NotImplementedError:
        return False


def test_what_can_be_decoded_is_readable_and_nothing_else() -> None:
    register_decoder()
    assert {str(uid) for uid in AllTransferSyntaxes if has_decoder(uid)} == set(READABLE)
    assert len(set(READABLE)) == len(READABLE)


def test_compressed_ones_come_after_uncompressed_and_lossy_ones_last() -> None:
    compressed = [UID(uid).is_compressed for uid in READABLE if not UID(uid).is_deflated]
    assert compressed == sorted(compressed)
    assert list(READABLE[: len(UNCOMPRESSED)]) == list(UNCOMPRESSED)
    assert list(READABLE[-len(LOSSY) :]) == list(LOSSY)
