"""Decode the stored pixels of frames to numbers."""

import warnings
import zlib
from collections.abc import Iterable

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels.utils import pixel_array

from pipeline.errors import PixelsMissing, PixelsUndecodable
from pipeline.frames import PlacedFrame
from pipeline.guarded_stream import PARSER_FAILURES
from pipeline.header import NotDicom, inflate_file
from pipeline.jpeg_extended import register_decoder
from pipeline.study import Instance, StoredPixels

_FLOAT_TYPES = {32: "f4", 64: "f8"}
_INTEGER_TYPES = {8: "1", 16: "2", 32: "4"}
_MAX_VALUES = 2**30
"""Largest number of voxels of a volume: far above any MR volume, and below what would exhaust the memory of a host."""


def decode(frames: tuple[PlacedFrame, ...], series_uid: str) -> NDArray[np.float32]:
    """Decode frames and apply the rescale of each: (frames, rows, columns).

    Uncompressed pixels are read from the offset that the scan found; pydicom and its plug-ins decode others (JPEG, JPEG
    2000, JPEG-LS, RLE, deflate). Raises PixelsMissing or PixelsUndecodable.
    """
    first = frames[0].instance
    if len(frames) * first.rows * first.columns > _MAX_VALUES:
        raise PixelsUndecodable(
            f"Series {series_uid}: {len(frames)} images of {first.rows} x {first.columns} are too many."
        )
    out = np.empty((len(frames), first.rows, first.columns), np.float32)
    by_instance: dict[str, list[int]] = {}
    for number, frame in enumerate(frames):
        by_instance.setdefault(frame.instance.sop_instance_uid, []).append(number)

    for numbers in by_instance.values():  # one after the other: the decoders hold the GIL
        stored = _stored_frames(frames[numbers[0]].instance, [frames[number].index for number in numbers], series_uid)
        for number, values in zip(numbers, stored, strict=True):
            frame = frames[number]
            np.multiply(values, np.float32(frame.rescale_slope), out=out[number], casting="unsafe")
            if frame.rescale_intercept:
                out[number] += np.float32(frame.rescale_intercept)
    return out


def _stored_frames(instance: Instance, indices: list[int], series_uid: str) -> list[NDArray[np.generic]]:
    if instance.stored is None:
        return _decoded_frames(instance, indices, series_uid)
    try:
        return _native_frames(instance, instance.stored, indices, series_uid)
    except (OSError, NotDicom, zlib.error) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it does not inflate"
        raise PixelsMissing(
            f"Series {series_uid}: the file of image {instance.sop_instance_uid} cannot be read ({why}). "
            "Send the series again."
        ) from exc


def _native_frames(
    instance: Instance, stored: StoredPixels, indices: list[int], series_uid: str
) -> list[NDArray[np.generic]]:
    kind = (_FLOAT_TYPES if stored.is_float else _INTEGER_TYPES).get(stored.bits_allocated)
    if kind is None:
        raise PixelsUndecodable(
            f"Series {series_uid}: image {instance.sop_instance_uid} has {stored.bits_allocated} bits a pixel; "
            "8, 16 and 32 can be read. Send it with 16."
        )
    sign = "" if stored.is_float else "i" if stored.signed else "u"
    dtype = np.dtype(("<" if stored.little_endian else ">") + sign + kind)
    count = instance.rows * instance.columns
    inflated = np.frombuffer(inflate_file(instance.path), np.uint8) if stored.deflated else None
    frames: list[NDArray[np.generic]] = []
    for index in indices:
        start, length = stored.offset + index * count * dtype.itemsize, count * dtype.itemsize
        if inflated is not None:
            found = inflated[start : start + length]
        else:
            found = np.fromfile(instance.path, np.uint8, length, offset=start)
        if found.size < length:
            raise _cut_short(series_uid, 1)
        values: NDArray[np.generic] = found.view(dtype)
        if not stored.is_float and 0 < stored.bits_stored < stored.bits_allocated:
            values = _without_spare_bits(values, stored)
        frames.append(values.reshape(instance.rows, instance.columns))
    return frames


def _without_spare_bits(values: NDArray[np.generic], stored: StoredPixels) -> NDArray[np.generic]:
    """Remove the bits above BitsStored, which are not part of the value (PS3.5 8.1.1): overlays of old scanners."""
    spare = stored.bits_allocated - stored.bits_stored
    native = values.astype(values.dtype.newbyteorder("="), copy=False)
    shifted: NDArray[np.generic] = (native << spare) >> spare
    return shifted


def _decoded_frames(instance: Instance, indices: list[int], series_uid: str) -> list[NDArray[np.generic]]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            register_decoder()
            if instance.number_of_frames == 1:
                found = [pixel_array(instance.path)]
            else:
                found = [pixel_array(instance.path, index=index) for index in indices]
    except BaseException as exc:
        # The RLE decoder is written in Rust, and its panics are BaseExceptions.
        if not isinstance(exc, (*PARSER_FAILURES, RuntimeError)) and type(exc).__name__ != "PanicException":
            raise
        # Without the mode, an invalid UID of a damaged header would raise a warning.
        syntax = pydicom.uid.UID(instance.transfer_syntax_uid, validation_mode=pydicom.config.IGNORE)
        name = syntax.name if syntax.is_transfer_syntax else str(syntax) if syntax.is_valid else "unknown"
        raise PixelsUndecodable(
            f"Series {series_uid}: image {instance.sop_instance_uid} in transfer syntax {name} cannot be decoded. "
            "Send the series again, uncompressed (Explicit VR Little Endian)."
        ) from exc
    for values in found:
        if values.shape != (instance.rows, instance.columns):
            raise PixelsUndecodable(
                f"Series {series_uid}: image {instance.sop_instance_uid} decodes to another size than its header says. "
                "Send the series again."
            )
    return found


def _cut_short(series_uid: str, count: int) -> PixelsMissing:
    return PixelsMissing(
        f"Series {series_uid}: the pixels of {count} image{'s' if count > 1 else ''} are missing or cut short. "
        "Send the series again."
    )


def check_complete(series_uid: str, instances: Iterable[Instance]) -> None:
    """Raise PixelsMissing if an image lacks pixels."""
    count = sum(not instance.has_pixels for instance in instances)
    if count:
        raise _cut_short(series_uid, count)
