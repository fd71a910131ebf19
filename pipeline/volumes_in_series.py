"""Select the frames of a series that make one volume: repeats are told apart by headers, never by file order."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from models.labels import Role
from pipeline.contrast_agent import names_agent
from pipeline.errors import RepeatedPositions
from pipeline.frames import PlacedFrame

SAME_POSITION_MM = 0.01
"""Slices closer than this have the same position."""


@dataclass(frozen=True, slots=True)
class _Property:
    """A header value that may distinguish volumes at the same positions."""

    name: str
    read: Callable[[PlacedFrame], object]


_PROPERTIES = (
    _Property("signal component", lambda frame: frame.component),
    _Property("echo time", lambda frame: frame.echo_time_ms),
    _Property("b-value", lambda frame: frame.b_value),
    _Property("temporal position", lambda frame: frame.temporal_position),
    _Property("acquisition number", lambda frame: frame.acquisition_number),
    _Property("contrast agent", lambda frame: names_agent(frame.instance)),
    _Property("diffusion direction", lambda frame: frame.gradient),
    _Property("image type", lambda frame: frame.image_type),
    _Property("stack", lambda frame: frame.stack),
    _Property("trigger time", lambda frame: frame.trigger_time_ms),
    _Property("echo number", lambda frame: frame.echo_number),
)


def select_volume(
    uid: str, frames: tuple[PlacedFrame, ...], normal: NDArray[np.float64], role: Role
) -> tuple[tuple[PlacedFrame, ...], tuple[str, ...]]:
    """Return the frames of the volume that suits the role, sorted along the normal, and notes.

    Raises RepeatedPositions.
    """
    ordered, places = sort_by_position(frames, normal)
    if places[-1] + 1 == len(ordered):
        return ordered, ()
    volumes, names = _split(ordered, places)
    if not volumes:
        volumes, names = _split_by_time(ordered, places)
    if not volumes:
        raise RepeatedPositions(
            f"Series {uid}: {len(ordered)} images stand at {places[-1] + 1} positions and no header tells them apart. "
            "Send each volume as a series of its own."
        )
    full = [volume for volume in volumes if len(volume) == places[-1] + 1]
    best = min(full, key=lambda volume: _preference(volume[0], role))
    return best, (f"the series holds {len(volumes)} volumes that differ in {' and '.join(names)}; one was taken",)


def header_key(frame: PlacedFrame) -> tuple[object, ...]:
    """Return the header values of a frame that may tell it from others at its position."""
    return tuple(item.read(frame) for item in _PROPERTIES)


def sort_by_position(
    frames: tuple[PlacedFrame, ...], normal: NDArray[np.float64]
) -> tuple[tuple[PlacedFrame, ...], NDArray[np.int64]]:
    """Return the frames sorted along the normal, and the number of each one's position, from 0."""
    distances = np.array([np.dot(frame.position_mm or (0.0, 0.0, 0.0), normal) for frame in frames])
    order = np.argsort(distances, kind="stable")
    places = np.concatenate([[0], np.cumsum(np.diff(distances[order]) > SAME_POSITION_MM)])
    return tuple(frames[number] for number in order), places


def _split(
    frames: tuple[PlacedFrame, ...], places: NDArray[np.int64]
) -> tuple[list[tuple[PlacedFrame, ...]], tuple[str, ...]]:
    """Split by the fewest properties for which no volume has a position twice and at least one is complete.

    Returns the volumes and the names of the properties; both are empty if no properties do.
    """
    varying = [item for item in _PROPERTIES if len({item.read(frame) for frame in frames}) > 1]
    for count in range(1, min(3, len(varying)) + 1):
        for properties in combinations(varying, count):
            groups: dict[tuple[object, ...], list[int]] = {}
            for number, frame in enumerate(frames):
                groups.setdefault(tuple(item.read(frame) for item in properties), []).append(number)
            distinct = all(len(set(places[numbers])) == len(numbers) for numbers in groups.values())
            if distinct and any(len(numbers) == places[-1] + 1 for numbers in groups.values()):
                volumes = [tuple(frames[number] for number in numbers) for numbers in groups.values()]
                return volumes, tuple(item.name for item in properties)
    return [], ()


def _split_by_time(
    frames: tuple[PlacedFrame, ...], places: NDArray[np.int64]
) -> tuple[list[tuple[PlacedFrame, ...]], tuple[str, ...]]:
    """Split into acquisitions that were measured one after another, like `_split`.

    A new one begins with the first time at which a position comes again.
    """
    moments: dict[str, list[int]] = {}
    for number, frame in enumerate(frames):
        moments.setdefault(frame.instance.acquired_at, []).append(number)
    if "" in moments or places[-1] == 0:
        return [], ()
    groups: list[list[int]] = [[]]
    for _, numbers in sorted(moments.items()):
        here = places[numbers].tolist()
        if len(set(here)) < len(here):
            return [], ()
        if set(here) & set(places[groups[-1]].tolist()):
            groups.append([])
        groups[-1].extend(numbers)
    if not any(len(numbers) == places[-1] + 1 for numbers in groups):
        return [], ()
    return [tuple(frames[number] for number in sorted(numbers)) for numbers in groups], ("acquisition time",)


def _preference(frame: PlacedFrame, role: Role) -> tuple[float, ...]:
    """Return a sort key of volumes, the best first.

    Preferred are magnitude, ADC for the role ADC, the first echo (the last for T2 and FLAIR), contrast agent for T1CE
    and none for T1, and the last of a dynamic or, before contrast, the first.
    """
    first_or_last = -1.0 if role is Role.T1 else 1.0
    agent = names_agent(frame.instance)
    moment = tuple(first_or_last * -int(char) for char in frame.instance.acquired_at.ljust(20, "0")[:20])
    echo = frame.echo_time_ms or 0.0
    b_value = frame.b_value or 0.0
    return (
        float(frame.component != "M"),
        float(role is Role.ADC and "ADC" not in frame.image_type),
        -b_value if role is Role.DWI else b_value,
        -echo if role in (Role.T2, Role.FLAIR) else echo,
        float(agent if role is Role.T1 else not agent) if role in (Role.T1, Role.T1CE) else 0.0,
        -first_or_last * (frame.temporal_position or 0),
        -first_or_last * (frame.acquisition_number or 0),
        *moment,
    )
