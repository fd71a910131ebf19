"""Compare the pixels of two files, whatever their transfer syntaxes: value by value, a frame at a time."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.pixels.utils import pixel_array
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian

from pipeline.guarded_stream import PARSER_FAILURES
from pipeline.header import Header, NotDicom, inflate_file
from pipeline.jpeg_extended import register_decoder
from pipeline.transfer_syntaxes import READABLE

_SAMPLES, _PHOTOMETRIC, _FRAMES, _ROWS, _COLUMNS = 0x00280002, 0x00280004, 0x00280008, 0x00280010, 0x00280011
_ALLOCATED, _STORED, _HIGH_BIT, _SIGNED = 0x00280100, 0x00280101, 0x00280102, 0x00280103
_SHAPE = (_FRAMES, _ROWS, _COLUMNS, _SAMPLES)
PIXEL_TAGS = frozenset({*_SHAPE, _PHOTOMETRIC, _ALLOCATED, _STORED, _HIGH_BIT, _SIGNED})
"""Elements of a header that `same_pixels` needs."""

_MOST_VALUES = 2**28
"""What is decoded of a file to compare it: far above any MR image, and a bound on the time that it takes."""
_STEP = 1 << 20


class Undecodable(ValueError):
    """The pixels of a file cannot be decoded."""

    def __init__(self, path: Path) -> None:
        super().__init__("pixels that cannot be decoded")
        self.path = path


def same_pixels(one: Path, one_header: Header, other: Path, other_header: Header) -> bool:
    """Return whether two files have the same pixel values in frames of the same size; True where both have none.

    The headers were read from these files, with PIXEL_TAGS. Raises Undecodable, which names the file.
    """
    if one_header.pixels is None or other_header.pixels is None:
        return one_header.pixels is other_header.pixels
    shape = _shape(one_header)
    if shape != _shape(other_header) or _is_inverted(one_header) != _is_inverted(other_header):
        return False
    first, second = _Frames(one, one_header), _Frames(other, other_header)
    if np.prod(shape, dtype=float) > _MOST_VALUES:
        raise Undecodable(other)
    return all(_are_equal(first.decode(index), second.decode(index)) for index in range(shape[0]))


def same_beginning(one: Path, one_header: Header, other: Path, other_header: Header) -> bool:
    """Return whether the pixels of `one`, which are cut short, may be the beginning of those of `other`.

    Only uncompressed pixels in one transfer syntax are compared, byte by byte.
    """
    first, second = one_header.pixels, other_header.pixels
    if first is None or second is None or first.encapsulated or second.encapsulated:
        return True
    syntax = one_header.transfer_syntax_uid
    if syntax != other_header.transfer_syntax_uid or syntax == DeflatedExplicitVRLittleEndian:
        return True
    length = min(first.length, second.length) & ~1  # the last byte may be half a value
    with one.open("rb") as file, other.open("rb") as other_file:
        file.seek(first.offset)
        other_file.seek(second.offset)
        while length > 0:
            step = min(length, _STEP)
            if file.read(step) != other_file.read(step):
                return False
            length -= step
    return True


def _are_equal(values: NDArray[Any], others: NDArray[Any]) -> bool:
    return np.array_equal(values, others, equal_nan=values.dtype.kind == others.dtype.kind == "f")


def _shape(header: Header) -> tuple[int, ...]:
    return tuple(max(header.integer(tag) or 1, 1) for tag in _SHAPE)


def _is_inverted(header: Header) -> bool:
    return header.text(_PHOTOMETRIC) == "MONOCHROME1"


class _Frames:
    """The frames of a file. Uncompressed grey ones are read from their place, pydicom decodes the others."""

    def __init__(self, path: Path, header: Header) -> None:
        self._path = path
        self._header = header
        self._shape = _shape(header)
        self._dtype = _native_dtype(header)
        self._inflated: bytes | None = None

    def decode(self, index: int) -> NDArray[Any]:
        """Return the values of a frame. Raises Undecodable."""
        try:
            return self._read(index) if self._dtype is not None else self._decode(index)
        except BaseException as exc:
            # The RLE decoder is written in Rust, and its panics are BaseExceptions.
            expected = isinstance(exc, (*PARSER_FAILURES, RuntimeError, NotDicom))
            if not expected and type(exc).__name__ != "PanicException":
                raise
            raise Undecodable(self._path) from exc

    def _read(self, index: int) -> NDArray[Any]:
        pixels, dtype = self._header.pixels, self._dtype
        assert pixels is not None
        assert dtype is not None
        _, rows, columns, _ = self._shape
        length = rows * columns * dtype.itemsize
        if (index + 1) * length > pixels.length:
            raise EOFError
        start = pixels.offset + index * length
        if self._header.transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
            self._inflated = self._inflated if self._inflated is not None else inflate_file(self._path)
            found = self._inflated[start : start + length]
        else:
            with self._path.open("rb") as file:
                file.seek(start)
                found = file.read(length)
        values = np.frombuffer(found, dtype).reshape(rows, columns)
        stored = self._header.integer(_STORED) or 0
        spare = dtype.itemsize * 8 - stored
        if dtype.kind == "f" or stored <= 0 or spare <= 0 or self._header.integer(_HIGH_BIT) != stored - 1:
            return values
        # The bits above BitsStored are not part of the value (PS3.5 8.1.1), and compression drops them.
        native = values.astype(values.dtype.newbyteorder("="))
        shifted: NDArray[Any] = (native << spare) >> spare
        return shifted

    def _decode(self, index: int) -> NDArray[Any]:
        # Whatever else pydicom has a decoder for is not compared; the listener accepts no other syntaxes either.
        if self._header.transfer_syntax_uid not in READABLE:
            raise NotDicom("no transfer syntax that is read")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            register_decoder()
            return pixel_array(self._path) if self._shape[0] == 1 else pixel_array(self._path, index=index)


def _native_dtype(header: Header) -> np.dtype[Any] | None:
    """Return how the values of uncompressed grey pixels are stored; None for all others."""
    assert header.pixels is not None
    if header.pixels.encapsulated or (header.integer(_SAMPLES) or 1) != 1:
        return None
    kind = "f" if header.pixels.is_float else "i" if header.integer(_SIGNED) else "u"
    size = {8: 1, 16: 2, 32: 4, 64: 8}.get(header.integer(_ALLOCATED) or 0)
    if size is None or (kind == "f") != (header.pixels.is_float and size >= 4):
        return None
    return np.dtype((">" if header.transfer_syntax_uid == ExplicitVRBigEndian else "<") + kind + str(size))
