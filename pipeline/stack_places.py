"""Compare where and when the slices of two series stand, from headers only."""

from dataclasses import dataclass
from datetime import datetime

from pipeline.frames import PlacedFrame
from pipeline.volume import Vector

SAME_DIRECTION = 1e-4
"""Largest difference of the components of two directions: the images of one acquisition differ by rounding only."""
SAME_PLACE_MM = 0.25
"""Largest distance of two slices of one stack within their plane."""
ROUNDING_MM = 0.06
"""Positions written with one decimal differ by this."""


@dataclass(frozen=True, slots=True)
class Stack:
    """Frames of one size in one orientation."""

    frames: tuple[PlacedFrame, ...]
    positions: tuple[Vector, ...]
    """One per slice, each once."""
    orientation: tuple[float, ...]
    frame_of_reference_uid: str
    times_s: tuple[float, ...]
    """The different times of acquisition, ascending; empty where an image has none."""

    @property
    def normal(self) -> Vector:
        """Direction of the slices: row direction x column direction."""
        a, b, c, d, e, f = self.orientation
        return (b * f - c * e, c * d - a * f, a * e - b * d)

    def places_mm(self, axis: tuple[float, ...]) -> list[float]:
        """Return the distances of the slices along an axis, ascending."""
        return sorted(sum(a * b for a, b in zip(position, axis, strict=True)) for position in self.positions)


def stack_of(frames: tuple[PlacedFrame, ...]) -> Stack | None:
    """Return frames as a stack; None unless they agree in size, spacing, orientation and frame of reference."""
    first = frames[0]
    if first.orientation is None or not all(_alike(frame, first) for frame in frames):
        return None
    frames_of_reference = {frame.instance.frame_of_reference_uid for frame in frames} - {""}
    if len(frames_of_reference) > 1:
        return None
    times = {_seconds(frame.instance.acquired_at) for frame in frames}
    known = sorted(time for time in times if time is not None)
    return Stack(
        frames=frames,
        positions=tuple(dict.fromkeys(frame.position_mm for frame in frames if frame.position_mm is not None)),
        orientation=first.orientation,
        frame_of_reference_uid="".join(frames_of_reference),
        times_s=() if None in times else tuple(known),
    )


def same_direction(left: tuple[float, ...], right: tuple[float, ...]) -> bool:
    """Return whether two orientations are the same, beside rounding."""
    return all(abs(a - b) <= SAME_DIRECTION for a, b in zip(left, right, strict=True))


def same_grid(one: Stack, other: Stack) -> bool:
    """Return whether the slices of two stacks have the same size and stand at the same places."""
    first, second = one.frames[0], other.frames[0]
    if not _same_size(first, second) or not same_direction(one.orientation, other.orientation):
        return False
    axes = ((one.normal, ROUNDING_MM), (one.orientation[:3], SAME_PLACE_MM), (one.orientation[3:], SAME_PLACE_MM))
    return len(one.positions) == len(other.positions) and all(
        abs(left - right) <= limit
        for axis, limit in axes
        for left, right in zip(one.places_mm(axis), other.places_mm(axis), strict=True)
    )


def pause_s(one: Stack, other: Stack) -> float | None:
    """Return the time between two acquisitions, 0 if they overlap; None where a time is not known."""
    if not one.times_s or not other.times_s:
        return None
    return max(other.times_s[0] - one.times_s[-1], one.times_s[0] - other.times_s[-1], 0.0)


def _alike(frame: PlacedFrame, first: PlacedFrame) -> bool:
    return (
        frame.position_mm is not None
        and frame.orientation is not None
        and first.orientation is not None
        and same_direction(frame.orientation, first.orientation)
        and _same_size(frame, first)
    )


def _same_size(one: PlacedFrame, other: PlacedFrame) -> bool:
    return (one.instance.rows, one.instance.columns, one.pixel_spacing_mm) == (
        *(other.instance.rows, other.instance.columns),
        other.pixel_spacing_mm,
    )


def _seconds(acquired_at: str) -> float | None:
    """Return a time written as digits, YYYYMMDDhhmmss and a fraction, in seconds; None without date and time."""
    try:
        moment = datetime.strptime(acquired_at[:14], "%Y%m%d%H%M%S")
    except ValueError:
        return None
    fraction = acquired_at[14:20]
    return (moment - datetime.min).total_seconds() + (int(fraction) / 10 ** len(fraction) if fraction else 0.0)
