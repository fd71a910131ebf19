"""Which frames of a series make one volume: repeats told apart by headers, never by file order. Reads nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from models.labels import Role
from pipeline.errors import RepeatedPositions
from pipeline.frames import PlacedFrame

SAME_PLACE_MM = 0.01
"""Two slices closer than this stand at one position."""

Key = Callable[[PlacedFrame], object]


@dataclass(frozen=True, slots=True)
class _Property:
    """Something that tells volumes at the same positions apart."""

    name: str
    of: Key


_PROPERTIES = (
    _Property("signal component", lambda frame: frame.component),
    _Property("echo time", lambda frame: frame.echo_time_ms),
    _Property("b-value", lambda frame: frame.b_value),
    _Property("temporal position", lambda frame: frame.temporal_position),
    _Property("acquisition number", lambda frame: frame.acquisition_number),
    _Property("diffusion direction", lambda frame: frame.gradient),
    _Property("image type", lambda frame: frame.image_type),
    _Property("stack", lambda frame: frame.stack),
    _Property("trigger time", lambda frame: frame.trigger_time_ms),
    _Property("echo number", lambda frame: frame.echo_number),
)


def one_volume(
    uid: str, frames: tuple[PlacedFrame, ...], normal: NDArray[np.float64], role: Role
) -> tuple[tuple[PlacedFrame, ...], tuple[str, ...]]:
    """The frames of the volume that suits the role, sorted along the normal, and notes. Raises RepeatedPositions."""
    ordered, places = by_place(frames, normal)
    if places[-1] + 1 == len(ordered):
        return ordered, ()
    volumes, names = _split(ordered, places)
    if not volumes:
        raise RepeatedPositions(
            f"Series {uid}: {len(ordered)} images stand at {places[-1] + 1} positions and no header tells them apart. "
            "Send each volume as a series of its own."
        )
    full = [volume for volume in volumes if len(volume) == places[-1] + 1]
    best = min(full, key=lambda volume: _preference(volume[0], role))
    return best, (f"the series holds {len(volumes)} volumes that differ in {' and '.join(names)}; one was taken",)


def by_place(
    frames: tuple[PlacedFrame, ...], normal: NDArray[np.float64]
) -> tuple[tuple[PlacedFrame, ...], NDArray[np.int64]]:
    """The frames sorted along the normal, and for each the number of its position, from 0."""
    distances = np.array([np.dot(frame.position_mm or (0.0, 0.0, 0.0), normal) for frame in frames])
    order = np.argsort(distances, kind="stable")
    places = np.concatenate([[0], np.cumsum(np.diff(distances[order]) > SAME_PLACE_MM)])
    return tuple(frames[number] for number in order), places


def _split(
    frames: tuple[PlacedFrame, ...], places: NDArray[np.int64]
) -> tuple[list[tuple[PlacedFrame, ...]], tuple[str, ...]]:
    """The fewest properties under which every position occurs once a volume, at least one volume being complete."""
    varying = [item for item in _PROPERTIES if len({item.of(frame) for frame in frames}) > 1]
    for count in range(1, min(3, len(varying)) + 1):
        for properties in combinations(varying, count):
            groups: dict[tuple[object, ...], list[int]] = {}
            for number, frame in enumerate(frames):
                groups.setdefault(tuple(item.of(frame) for item in properties), []).append(number)
            apart = all(len(set(places[numbers])) == len(numbers) for numbers in groups.values())
            if apart and any(len(numbers) == places[-1] + 1 for numbers in groups.values()):
                volumes = [tuple(frames[number] for number in numbers) for numbers in groups.values()]
                return volumes, tuple(item.name for item in properties)
    return [], ()


def _preference(frame: PlacedFrame, role: Role) -> tuple[float, ...]:
    """Lower is better: magnitude; the ADC part for ADC; T1 by its first echo, T2 by its last; the last of a dynamic."""
    echo = frame.echo_time_ms or 0.0
    b_value = frame.b_value or 0.0
    return (
        float(frame.component != "M"),
        float(role is Role.ADC and "ADC" not in frame.image_type),
        -b_value if role is Role.DWI else b_value,
        -echo if role in (Role.T2, Role.FLAIR) else echo,
        -float(frame.temporal_position or 0),
        -float(frame.acquisition_number or 0),
    )
