"""Read a chosen series as a volume. What is no regular stack of slices is refused, with an error of its own kind."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.labels import Role
from pipeline.adc_map import check_plausible, in_adc_units
from pipeline.air import check_air
from pipeline.derive_adc import comparable_signals, fit_adc, weighted_frames
from pipeline.diffusion import B_UNWEIGHTED
from pipeline.errors import (
    EXCLUDE,
    ColourImages,
    GantryShear,
    IrregularSlices,
    MixedOrientations,
    MosaicImages,
    PixelsUndecodable,
    PlaceUnknown,
    RepeatedPositions,
    SlicesMissing,
    StrayImage,
    TooFewSlices,
)
from pipeline.frame_of_reference import common_frame_of_reference
from pipeline.frames import PlacedFrame, list_frames
from pipeline.mosaic import is_mosaic
from pipeline.pixels import check_complete, check_syntax, decode
from pipeline.remarks import Remark, RemarkKind
from pipeline.repeated_images import without_repeats
from pipeline.study import Series
from pipeline.volume import Frame, Geometry, Volume
from pipeline.volumes_in_series import select_volume, sort_by_position

GREY = frozenset({"MONOCHROME1", "MONOCHROME2", ""})
"""One sample per pixel without an interpretation is grey: damaged headers lack it."""
DIRECTION_TOLERANCE = 2e-3
"""Largest difference of the components of two directions; 2e-3 moves the edge of a head by 0.25 mm."""
SPACING_TOLERANCE = 0.05
"""Largest distance of a slice from its regular position, as a fraction of the slice spacing."""
ROUNDING_MM = 0.06
"""Positions written with one decimal still count as regular."""
SHEAR_TOLERANCE_MM = 0.25
"""Largest sideways shift of the last slice against the first, beyond the tolerance of directions."""


@dataclass(frozen=True, slots=True)
class Stack:
    """The images of a series that make one volume, before their pixels are decoded."""

    frames: tuple[PlacedFrame, ...]
    """One per slice, in slice order."""
    geometry: Geometry
    notes: tuple[str, ...]
    diffusion: tuple[PlacedFrame, ...] = ()
    """The diffusion-weighted images, sorted by position, if ADC has to be computed from them; else empty."""
    remarks: tuple[Remark, ...] = ()


def read_volume(series: Series, role: Role) -> Volume:
    """Read the volume of a series, its slices ordered along the normal (row direction x column direction).

    Pixels are (slice, row, column), float32, rescaled; ADC in 10^-6 mm2/s with NaN for failed fits. The slice spacing
    comes from the positions only. If headers tell several volumes in a series apart, the one that suits the role is
    taken and a note says so. For a diffusion series read as ADC, the map is computed from its images with b = 0 and b
    around 1000. `frames` has one entry per slice. Padding (0028,0120) is NaN in every role.

    Raises a subclass of SeriesUnreadable, see `pipeline.errors`; its message names the series UID and a remedy.
    """
    uid = series.series_instance_uid
    stack = find_stack(series, role)
    if stack.diffusion:
        pixels, notes = _computed_adc(uid, stack, series.manufacturer)
        return Volume(pixels, stack.geometry, _sources(stack.frames), (*stack.notes, *notes), stack.remarks, uid)
    decoded = decode(stack.frames, uid)
    pixels, notes = decoded.pixels, (*stack.notes, *decoded.notes)
    if role is Role.ADC:
        pixels, note, remarks = in_adc_units(uid, stack.frames, pixels)
        return Volume(pixels, stack.geometry, _sources(stack.frames), (*notes, note), (*stack.remarks, *remarks), uid)
    if role is not Role.DWI:
        check_air(uid, pixels, any(one.instance.photometric_interpretation == "MONOCHROME1" for one in stack.frames))
    return Volume(pixels, stack.geometry, _sources(stack.frames), notes, stack.remarks, uid)


def find_stack(series: Series, role: Role) -> Stack:
    """Find the images that make the volume, and its geometry. Raises like `read_volume`.

    Pixels are read only where several images stand at one position and their headers do not tell them apart.
    """
    uid = series.series_instance_uid
    frames = list_frames(series)
    if not frames:
        count = len(series.instances)
        raise TooFewSlices(f"Series {uid}: none of its {count} objects is an image. {EXCLUDE}")
    _check_grey(uid, frames)
    images = {frame.instance.sop_instance_uid: frame.instance for frame in frames}.values()
    check_syntax(uid, images)
    check_complete(uid, images)
    _check_sizes(uid, frames)
    normal = _check_directions(uid, frames)
    single = without_repeats(uid, frames, normal)
    weighted = weighted_frames(single) if role is Role.ADC and not _is_map(single) else ()
    if weighted:
        ordered, places = sort_by_position(weighted, normal)
        slices = _weighted_slices(uid, ordered, places)
        b_note = ", ".join(f"{value:g}" for value in sorted({frame.b_value or 0.0 for frame in ordered}))
        notes: tuple[str, ...] = (
            f"ADC computed here from {len(ordered)} images with b = {b_note} s/mm2 (mono-exponential, log-linear)",
        )
    else:
        single, slices, notes = _one_volume(uid, single, normal, role)
        ordered = ()
    _check_rescale(uid, ordered or slices)
    geometry = _geometry(uid, slices, normal)
    frame_of_reference, remarks = common_frame_of_reference(uid, ordered or slices, role)
    if repeats := len(frames) - len(single):
        text = f"{repeats} images of {role} came more than once with equal pixels; each was used once."
        remarks = (*remarks, Remark(RemarkKind.REPEATED_IMAGES, text, (role,)))
    return Stack(slices, replace(geometry, frame_of_reference_uid=frame_of_reference), notes, ordered, remarks)


def _one_volume(
    uid: str, frames: tuple[PlacedFrame, ...], normal: NDArray[np.float64], role: Role
) -> tuple[tuple[PlacedFrame, ...], tuple[PlacedFrame, ...], tuple[str, ...]]:
    """Return the frames without repeats, and those of them that make the volume with notes, as `select_volume` does."""
    try:
        return frames, *select_volume(uid, frames, normal, role)
    except RepeatedPositions:
        # Copies may have come with other headers, so that neither these nor the pixels alone tell volumes apart.
        single = without_repeats(uid, frames, normal, by_header=False)
        if len(single) == len(frames):
            raise
        return single, *select_volume(uid, single, normal, role)


def _sources(frames: tuple[PlacedFrame, ...]) -> tuple[Frame, ...]:
    images = ((one.instance, one.index + 1) for one in frames)
    return tuple(
        Frame(image.sop_class_uid, image.sop_instance_uid, number, image.series_instance_uid)
        for image, number in images
    )


def _is_map(frames: tuple[PlacedFrame, ...]) -> bool:
    return any("ADC" in frame.image_type or "ADC" in frame.instance.image_type for frame in frames)


def _weighted_slices(uid: str, frames: tuple[PlacedFrame, ...], places: NDArray[np.int64]) -> tuple[PlacedFrame, ...]:
    """Return the first diffusion-weighted image of every slice.

    Raises SlicesMissing if a slice lacks an image with b = 0 or one with b around 1000.
    """
    weighted = np.array([(frame.b_value or 0.0) > B_UNWEIGHTED[1] for frame in frames])
    count = int(places.max()) + 1
    if len(set(places[weighted].tolist())) < count or len(set(places[~weighted].tolist())) < count:
        raise SlicesMissing(
            f"Series {uid}: some slices lack an image with b = 0 or b around 1000, so no ADC can be computed. "
            "Send the whole series, or the ADC map."
        )
    return tuple(frames[int(np.flatnonzero((places == place) & weighted)[0])] for place in range(count))


def _computed_adc(uid: str, stack: Stack, manufacturer: str) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    b_values = np.array([frame.b_value or 0.0 for frame in stack.diffusion])
    normal = np.array(stack.geometry.slice_step_mm) / stack.geometry.spacing_mm[0]
    ordered, places = sort_by_position(stack.diffusion, normal)
    assert ordered == stack.diffusion
    decoded = decode(stack.diffusion, uid)
    signals = comparable_signals(uid, decoded.pixels, stack.diffusion, manufacturer)
    adc = fit_adc(signals, b_values, places)
    check_plausible(uid, adc, "by the b-values of its images,")
    return adc, decoded.notes


def _check_grey(uid: str, frames: tuple[PlacedFrame, ...]) -> None:
    """Check that all images are grey and show one slice each. Raises ColourImages and MosaicImages."""
    for frame in frames:
        instance = frame.instance
        if instance.samples_per_pixel != 1 or instance.photometric_interpretation not in GREY:
            raise ColourImages(f"Series {uid}: its images are in colour. Send the original grey images.")
        if is_mosaic(frame):
            raise MosaicImages(
                f"Series {uid}: its images are mosaics of many slices. Send them as single slices or enhanced MR."
            )


def _check_sizes(uid: str, frames: tuple[PlacedFrame, ...]) -> None:
    """Check that all images have one size and pixel spacing. Raises StrayImage and PlaceUnknown."""
    counts: dict[tuple[int, int], int] = {}
    for frame in frames:
        size = (frame.instance.rows, frame.instance.columns)
        counts[size] = counts.get(size, 0) + 1
    if len(counts) > 1:
        sizes = ", ".join(f"{count} of {rows} x {columns}" for (rows, columns), count in sorted(counts.items()))
        raise StrayImage(
            f"Series {uid}: images of different sizes ({sizes}). Send the series without the stray images."
        )
    spacings = np.array([frame.pixel_spacing_mm or (np.nan, np.nan) for frame in frames])
    if not np.isfinite(spacings).all():
        raise PlaceUnknown(f"Series {uid}: images without pixel spacing (0028,0030) have no place in space. {EXCLUDE}")
    if np.abs(spacings / spacings[0] - 1).max() > 1e-3:
        raise StrayImage(f"Series {uid}: images of different pixel spacings. Send the series without the stray images.")


def _check_rescale(uid: str, frames: tuple[PlacedFrame, ...]) -> None:
    """Check that every image says how its values are scaled, or none does. Raises PixelsUndecodable."""
    if any(frame.rescale_slope == 0 for frame in frames):
        raise PixelsUndecodable(f"Series {uid}: images with a rescale slope of 0. Send it with the right slope.")
    silent = sum(not frame.instance.has_rescale and not frame.instance.frames for frame in frames)
    if silent and any((frame.rescale_slope, frame.rescale_intercept) != (1, 0) for frame in frames):
        raise PixelsUndecodable(
            f"Series {uid}: {silent} of its {len(frames)} images have no rescale slope, and others have one. "
            "Send it with the slope of every image."
        )


def _check_directions(uid: str, frames: tuple[PlacedFrame, ...]) -> NDArray[np.float64]:
    """Return the common normal of all slices, a unit vector. Raises PlaceUnknown and MixedOrientations."""
    if any(frame.instance.number_of_frames > 1 and not frame.instance.frames for frame in frames):
        raise PlaceUnknown(
            f"Series {uid}: multi-frame images that do not say where each frame stands. Send it as single slices."
        )
    if any(frame.orientation is None or frame.position_mm is None for frame in frames):
        raise PlaceUnknown(f"Series {uid}: images without position or orientation (0020,0032), (0020,0037). {EXCLUDE}")
    directions = np.array([frame.orientation for frame in frames], np.float64)
    lengths = np.linalg.norm(directions.reshape(-1, 2, 3), axis=2)
    across = np.abs((directions[:, :3] * directions[:, 3:]).sum(axis=1))
    if not np.isfinite(directions).all() or np.abs(lengths - 1).max() > 0.01 or across.max() > 0.01:
        raise PlaceUnknown(f"Series {uid}: its row and column directions (0020,0037) are not perpendicular. {EXCLUDE}")
    spread = np.abs(directions - directions[0]).max()
    if spread > DIRECTION_TOLERANCE:
        raise MixedOrientations(
            f"Series {uid}: its {len(frames)} images point in different directions. Send each orientation as a series."
        )
    normal = np.cross(directions[0, :3], directions[0, 3:])
    unit: NDArray[np.float64] = normal / np.linalg.norm(normal)
    return unit


def _geometry(uid: str, frames: tuple[PlacedFrame, ...], normal: NDArray[np.float64]) -> Geometry:
    """Return the geometry of frames sorted along the normal. Raises TooFewSlices, and IrregularSlices or a subclass."""
    if len(frames) < 2:
        raise TooFewSlices(
            f"Series {uid}: one slice is no volume. Send the whole series, if there is more of it, and mosaics of many "
            f"slices as single slices. {EXCLUDE}"
        )
    positions = np.array([frame.position_mm for frame in frames], np.float64)
    step = (positions[-1] - positions[0]) / (len(frames) - 1)
    spacing = float(step @ normal)
    distances = positions @ normal
    gaps = np.diff(distances)
    typical = float(np.median(gaps))
    tolerance = max(ROUNDING_MM, SPACING_TOLERANCE * typical)
    missing = int(np.rint(gaps[gaps > 1.5 * typical] / typical).sum() - (gaps > 1.5 * typical).sum())
    if missing:
        count = f"{missing} slices are" if missing > 1 else "1 slice is"
        raise SlicesMissing(
            f"Series {uid}: about {count} missing ({len(frames)} here, {typical:.2f} mm apart). "
            "Send the whole series, if the scanner has more of it."
        )
    uneven = np.abs(distances - (distances[0] + spacing * np.arange(len(frames)))).max()
    if np.abs(gaps - typical).max() > tolerance or uneven > 2 * tolerance:
        raise IrregularSlices(
            f"Series {uid}: its slices are unevenly spaced ({gaps.min():.2f} to {gaps.max():.2f} mm). {EXCLUDE}"
        )
    sideways = positions - positions[0] - np.outer(distances - distances[0], normal)
    drift = float(np.linalg.norm(sideways, axis=1).max())
    if drift > SHEAR_TOLERANCE_MM + DIRECTION_TOLERANCE * (distances[-1] - distances[0]):
        raise GantryShear(
            f"Series {uid}: its slices are shifted against each other by {drift:.1f} mm (a tilted gantry). {EXCLUDE}"
        )
    rows_mm, columns_mm = frames[0].pixel_spacing_mm or (1.0, 1.0)
    directions = np.array(frames[0].orientation, np.float64)
    affine = np.eye(4)
    affine[:3, 0] = step
    affine[:3, 1] = directions[3:] * rows_mm
    affine[:3, 2] = directions[:3] * columns_mm
    affine[:3, 3] = positions[0]
    shape = (len(frames), frames[0].instance.rows, frames[0].instance.columns)
    return Geometry.from_affine(affine, shape, frames[0].instance.frame_of_reference_uid)
