"""Decode the stored pixels of frames to numbers."""

import warnings
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels.utils import pixel_array
from pydicom.uid import RLELossless

from pipeline.errors import PaddingDoubtful, PixelsMissing, PixelsUndecodable
from pipeline.frames import PlacedFrame
from pipeline.guarded_stream import PARSER_FAILURES
from pipeline.header import NotDicom, inflate_file
from pipeline.jpeg_extended import register_decoder
from pipeline.padding_evidence import PaddingEvidence
from pipeline.samples import (
    Samples,
    bits_left_out,
    bytes_swapped,
    impossible_format,
    padded,
    sign_contradicted,
    stored_values,
)
from pipeline.study import Instance, SampleFormat, StoredPixels
from pipeline.transfer_syntaxes import DECODABLE

_FLOAT_TYPES = {32: "f4", 64: "f8"}
_INTEGER_TYPES = {8: "1", 16: "2", 32: "4"}
_MAX_VALUES = 2**30
"""Largest number of voxels of a volume: far above any MR volume, and below what would exhaust the memory of a host."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """Decoded frames."""

    pixels: NDArray[np.float32]
    """(frames, rows, columns), rescaled; NaN where they are padding."""
    notes: tuple[str, ...] = ()
    """What was found of the declared padding."""


def decode(frames: tuple[PlacedFrame, ...], series_uid: str) -> Decoded:
    """Decode frames and apply the rescale of each; voxels of padding are NaN (PS3.3 C.7.5.1.1.2).

    Uncompressed pixels are read from the offset that the scan found; pydicom and its plug-ins decode others (JPEG, JPEG
    2000, JPEG-LS, RLE, deflate). Padding is compared with stored values, before the rescale. A padding value that is
    only an ordinary grey value of the images is not taken for padding. No VOI LUT is applied. Raises PixelsMissing or
    PixelsUndecodable, and PaddingDoubtful if the padding takes the head.
    """
    evidence = PaddingEvidence()
    pixels = rescaled_pixels(frames, series_uid, evidence)
    if not evidence.padded:
        return Decoded(pixels)
    if evidence.is_ordinary:
        # Frames are not kept as they were stored; this is rare enough to decode them once more.
        note = "its pixel padding value (0028,0120) is an ordinary grey value, so it was not taken for padding"
        return Decoded(rescaled_pixels(frames, series_uid), (note,))
    if evidence.padded == evidence.voxels or evidence.takes_tissue:
        raise PaddingDoubtful(
            f"Series {series_uid}: the pixel padding that its headers declare (0028,0120 to 0028,0125) takes "
            f"{evidence.padded / evidence.voxels:.0%} of its voxels and most of the head. "
            "Send it with the right padding value, or without."
        )
    return Decoded(pixels, (f"{evidence.padded / evidence.voxels:.1%} of its voxels are padding, without a value",))


def same_pixels(one: PlacedFrame, other: PlacedFrame, series_uid: str) -> bool:
    """Return whether two frames show the same, whatever their encodings. Raises like `decode`."""
    sizes = {(frame.instance.rows, frame.instance.columns) for frame in (one, other)}
    first, second = (rescaled_pixels((frame,), series_uid) for frame in (one, other))
    return len(sizes) == 1 and np.array_equal(first, second, equal_nan=True)


def rescaled_pixels(
    frames: tuple[PlacedFrame, ...], series_uid: str, evidence: PaddingEvidence | None = None
) -> NDArray[np.float32]:
    """Decode as `decode` does, and count padding in `evidence`; without it, padding stays a value."""
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
        instance = frames[numbers[0]].instance
        cells = _stored_frames(instance, [frames[number].index for number in numbers], series_uid)
        for number, one in zip(numbers, cells, strict=True):
            frame = frames[number]
            if number == len(frames) // 2:  # one tells for all
                _check_byte_order(one, instance, series_uid)
            values = _values(one, instance, series_uid)
            np.multiply(values, np.float32(frame.rescale_slope), out=out[number], casting="unsafe")
            if frame.rescale_intercept:
                out[number] += np.float32(frame.rescale_intercept)
            if evidence is not None and instance.samples is not None:
                missing = padded(one, values, instance.samples)
                _check_sign(values, missing, instance, instance.samples, series_uid)
                out[number][missing] = np.nan
                in_middle = len(frames) <= 4 * number < 3 * len(frames)
                evidence.add(values, missing, instance.samples, in_middle)
    return out


def _check_byte_order(cells: Samples, instance: Instance, series_uid: str) -> None:
    if instance.stored is not None and bytes_swapped(cells):
        raise PixelsUndecodable(
            f"Series {series_uid}: the pixels of image {instance.sop_instance_uid} are not in the byte order of its "
            f"transfer syntax {instance.transfer_syntax_uid}. Send it as Explicit VR Little Endian."
        )


def _check_sign(
    values: Samples, missing: NDArray[np.bool_], instance: Instance, samples: SampleFormat, series_uid: str
) -> None:
    if sign_contradicted(values, missing, samples):
        raise PixelsUndecodable(
            f"Series {series_uid}: the values of image {instance.sop_instance_uid} do not have the sign that "
            "PixelRepresentation (0028,0103) says. Send it with the right PixelRepresentation."
        )


def _values(cells: Samples, instance: Instance, series_uid: str) -> Samples:
    """Return the stored values of a frame. Raises PixelsUndecodable if they contradict their header."""
    if instance.samples is None:
        return cells
    values = stored_values(cells, instance.samples)
    if bits_left_out(cells, values, instance.samples):
        raise PixelsUndecodable(
            f"Series {series_uid}: the values of image {instance.sop_instance_uid} need more than the "
            f"{instance.samples.bits_stored} bits that BitsStored (0028,0101) says. Send it with the right BitsStored."
        )
    return values


def _stored_frames(instance: Instance, indices: list[int], series_uid: str) -> list[Samples]:
    samples = instance.samples
    whole_cells = instance.stored is not None or instance.transfer_syntax_uid == RLELossless
    if samples is not None and (why := impossible_format(samples, whole_cells)):
        raise PixelsUndecodable(
            f"Series {series_uid}: image {instance.sop_instance_uid} cannot be read: {why}. "
            "Send it uncompressed, with HighBit = BitsStored - 1 and without a Modality LUT."
        )
    if instance.stored is None or samples is None:
        return _decoded_frames(instance, indices, series_uid)
    try:
        return _native_frames(instance, instance.stored, samples, indices, series_uid)
    except (OSError, NotDicom, zlib.error) as exc:
        cause = exc.strerror if isinstance(exc, OSError) else "it does not inflate"
        raise PixelsMissing(
            f"Series {series_uid}: the file of image {instance.sop_instance_uid} cannot be read ({cause}). "
            "Send the series again."
        ) from exc


def _native_frames(
    instance: Instance, stored: StoredPixels, samples: SampleFormat, indices: list[int], series_uid: str
) -> list[Samples]:
    kind = (_FLOAT_TYPES if samples.is_float else _INTEGER_TYPES).get(samples.bits_allocated)
    if kind is None:
        raise PixelsUndecodable(
            f"Series {series_uid}: image {instance.sop_instance_uid} has {samples.bits_allocated} bits a pixel; "
            "8, 16 and 32 can be read. Send it with 16."
        )
    sign = "" if samples.is_float else "i" if samples.signed else "u"
    dtype = np.dtype(("<" if stored.little_endian else ">") + sign + kind)
    count = instance.rows * instance.columns
    inflated = np.frombuffer(inflate_file(instance.path), np.uint8) if stored.deflated else None
    frames: list[Samples] = []
    for index in indices:
        start, length = stored.offset + index * count * dtype.itemsize, count * dtype.itemsize
        if inflated is not None:
            found = inflated[start : start + length]
        else:
            found = np.fromfile(instance.path, np.uint8, length, offset=start)
        if found.size < length:
            raise _cut_short(series_uid, 1)
        frames.append(found.view(dtype).reshape(instance.rows, instance.columns))
    return frames


def _decoded_frames(instance: Instance, indices: list[int], series_uid: str) -> list[Samples]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            register_decoder()
            if instance.number_of_frames == 1:
                found = [pixel_array(instance.path, correct_unused_bits=False)]
            else:
                found = [pixel_array(instance.path, index=index, correct_unused_bits=False) for index in indices]
    except BaseException as exc:
        # The RLE decoder is written in Rust, and its panics are BaseExceptions.
        if not isinstance(exc, (*PARSER_FAILURES, RuntimeError)) and type(exc).__name__ != "PanicException":
            raise
        raise PixelsUndecodable(
            f"Series {series_uid}: image {instance.sop_instance_uid} in transfer syntax "
            f"{_syntax_name(instance.transfer_syntax_uid)} cannot be decoded. "
            "Send the series again, uncompressed (Explicit VR Little Endian)."
        ) from exc
    for values in found:
        if values.shape != (instance.rows, instance.columns):
            raise PixelsUndecodable(
                f"Series {series_uid}: image {instance.sop_instance_uid} decodes to another size than its header says. "
                "Send it uncompressed (Explicit VR Little Endian), from where it was made."
            )
    return found


def _cut_short(series_uid: str, count: int) -> PixelsMissing:
    return PixelsMissing(
        f"Series {series_uid}: the pixels of {count} image{'s' if count > 1 else ''} are missing or cut short. "
        "Send the series again, from where it was made if an archive lost them."
    )


def check_complete(series_uid: str, instances: Iterable[Instance]) -> None:
    """Raise PixelsMissing if an image lacks pixels."""
    count = sum(not instance.has_pixels for instance in instances)
    if count:
        raise _cut_short(series_uid, count)


def check_syntax(series_uid: str, instances: Iterable[Instance]) -> None:
    """Raise PixelsUndecodable if an image is in a transfer syntax that is not known: its bytes would be guessed at."""
    unknown = sorted({one.transfer_syntax_uid for one in instances} - DECODABLE)
    if unknown:
        names = " and ".join(_syntax_name(uid) for uid in unknown)
        raise PixelsUndecodable(
            f"Series {series_uid}: pixels in transfer syntax {names} cannot be decoded here. "
            "Send it as Explicit VR Little Endian (1.2.840.10008.1.2.1)."
        )


def _syntax_name(uid: str) -> str:
    # Without the mode, an invalid UID of a damaged header would raise a warning.
    syntax = pydicom.uid.UID(uid, validation_mode=pydicom.config.IGNORE)
    if not syntax.is_valid:
        return "unknown"
    return f"{syntax.name} ({uid})" if syntax.is_transfer_syntax and syntax.name != uid else uid
