"""Take images of a series that came more than once with equal pixels as one."""

import numpy as np
from numpy.typing import NDArray

from pipeline.frames import PlacedFrame
from pipeline.pixels import same_pixels
from pipeline.volumes_in_series import SAME_POSITION_MM, header_key, sort_by_position

_Key = tuple[object, ...]


def without_repeats(
    uid: str, frames: tuple[PlacedFrame, ...], normal: NDArray[np.float64], by_header: bool = True
) -> tuple[PlacedFrame, ...]:
    """Return the frames, in their order, without those whose pixels and position another one has, too.

    Of equal ones the first is kept, by instance number, then SOP Instance UID. Only frames at one position are decoded,
    and of those only such as their headers do not tell apart; with `by_header` False all at one position. The first two
    that differ end the search: then they are several images, for which `select_volume` has a sentence.
    """
    ordered, places = sort_by_position(frames, normal)
    groups: dict[tuple[int, _Key], list[PlacedFrame]] = {}
    for frame, place in zip(ordered, places.tolist(), strict=True):
        groups.setdefault((place, header_key(frame) if by_header else ()), []).append(frame)
    repeats: set[tuple[str, int]] = set()
    for group in groups.values():
        first, *others = sorted(group, key=_order)
        for other in others:
            if not _same_place(first, other) or not same_pixels(first, other, uid):
                return frames
            repeats.add(_name(other))
    return tuple(frame for frame in frames if _name(frame) not in repeats)


def _order(frame: PlacedFrame) -> tuple[int, str, int]:
    return (frame.instance.instance_number or 0, *_name(frame))


def _name(frame: PlacedFrame) -> tuple[str, int]:
    return frame.instance.sop_instance_uid, frame.index


def _same_place(one: PlacedFrame, other: PlacedFrame) -> bool:
    distance = np.array(one.position_mm or (np.nan,)) - np.array(other.position_mm or (np.nan,))
    return bool(np.abs(distance).max() <= SAME_POSITION_MM) and one.real_world == other.real_world
