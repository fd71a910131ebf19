"""Join the series that one acquisition was split into by a scanner, router or archive. Uses headers only."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from statistics import median

from pipeline.frames import PlacedFrame, list_frames
from pipeline.stack_places import ROUNDING_MM, SAME_PLACE_MM, Stack, pause_s, same_direction, stack_of
from pipeline.study import Series, Study
from pipeline.volume import Vector

UNEVEN = 0.05
"""Largest deviation of a gap between slices, as a fraction of the usual one."""
WIDEST_GAP = 3.0
"""Slices further apart than this many slice thicknesses are no stack but single views."""
FEWEST = 3
"""Slices that a stack needs at least: any two are evenly spaced."""
MOST_TWICE = 0.25
"""Share of the slices of the smaller part that may be in the other one as well: a sender that was interrupted repeats
some. Reading then compares their pixels, and refuses the series where they differ."""
LONGEST_PAUSE_S = 600.0
"""Time that may lie between the parts of a stack whose slices interleave; such parts are measured one after another."""
SHORTEST_PAUSE_S = 1.0
"""Time that always may: some scanners write times in whole seconds."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A series that may be a part of an acquisition."""

    series: Series
    stack: Stack
    traits: tuple[object, ...]
    """What the images of one acquisition share: size, sequence, timing, agent, and the kinds of images per slice."""
    acquisition_numbers: frozenset[int]


def join_series(study: Study) -> Study:
    """Return the study with the series joined that are one acquisition by geometry, sequence and time.

    Their slices must continue or interleave to one regular stack, in one frame of reference; few may be in two parts.
    Parts that continue each other must also have been measured at one time, so that two stations stay apart. Where
    several series could be the other part, none is joined. A joined series has the UID of its largest part and names
    all of them in `Series.joined`; each image keeps the UID of its own.
    """
    buckets: dict[tuple[object, ...], list[_Part]] = {}
    for series in study.series:
        part = _part(series)
        if part is not None:
            buckets.setdefault(part.traits, []).append(part)
    groups = [group for bucket in buckets.values() if len(bucket) > 1 for group in _groups(bucket)]
    if not groups:
        return study
    gone = {part.series.series_instance_uid for group in groups for part in group}
    kept = [series for series in study.series if series.series_instance_uid not in gone]
    joined = [_joined([part.series for part in group]) for group in groups]
    ordered = sorted((*kept, *joined), key=lambda one: (one.series_number or 0, one.series_instance_uid))
    return replace(study, series=tuple(ordered))


def unjoined_parts(series: Series, study: Study) -> tuple[Series, ...]:
    """Return the series of a joined study whose slices make one stack with those of `series`, and are not read with it.

    Geometry and sequence say that they belong together; the time, the number of the acquisition or another part that
    fits as well do not.
    """
    part = _part(series)
    others = [_part(other) for other in study.series if other is not series]
    return tuple(
        other.series
        for other in others
        if part is not None
        and other is not None
        and other.traits == part.traits
        and same_direction(part.stack.orientation, other.stack.orientation)
        and _is_one_stack((part, other))
    )


def _joined(parts: list[Series]) -> Series:
    ordered = sorted(parts, key=lambda one: (one.series_number or 0, one.series_instance_uid))
    largest = max(ordered, key=lambda one: len(one.instances))
    images = sorted(
        (image for part in parts for image in part.instances),
        key=lambda one: (one.instance_number or 0, one.sop_instance_uid),
    )
    return replace(
        largest,
        description=next((one.description for one in (largest, *ordered) if one.description.strip()), ""),
        protocol_name=next((one.protocol_name for one in (largest, *ordered) if one.protocol_name.strip()), ""),
        archive_type=next((one.archive_type for one in (largest, *ordered) if one.archive_type), ""),
        instances=tuple(images),
        joined=tuple(ordered),
    )


def _part(series: Series) -> _Part | None:
    """Return a series as a part; None if it is no stack of slices in one orientation."""
    frames = list_frames(series)
    stack = stack_of(frames) if frames and series.modality == "MR" else None
    if stack is None:
        return None
    kinds: dict[Vector | None, list[str]] = {}
    for frame in frames:
        kinds.setdefault(frame.position_mm, []).append(repr(_kind(frame)))
    # Each slice must have the same kinds of images: magnitude and phase, echoes, b-values.
    per_slice = {tuple(sorted(each)) for each in kinds.values()}
    if len(per_slice) > 1:
        return None
    first, images = frames[0].instance, series.instances
    traits = (
        *(per_slice.pop(), stack.frame_of_reference_uid, first.rows, first.columns, frames[0].pixel_spacing_mm),
        *(first.sop_class_uid, first.scanning_sequence, first.acquisition_type, first.body_part),
        *(series.manufacturer.upper(), _rounded(first.slice_thickness_mm)),
        frozenset((one.contrast_agent or "").strip().lower() for one in images),
        frozenset(_rounded(one.repetition_time_ms) for one in images),
        frozenset(_rounded(one.inversion_time_ms) for one in images),
    )
    numbers = frozenset(frame.acquisition_number for frame in frames if frame.acquisition_number is not None)
    return _Part(series, stack, traits, numbers)


def _kind(frame: PlacedFrame) -> tuple[object, ...]:
    return (
        *(frame.image_type, frame.component, frame.echo_number, frame.temporal_position, frame.stack),
        *(_rounded(frame.echo_time_ms), _rounded(frame.b_value), frame.gradient),
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _groups(parts: list[_Part]) -> list[list[_Part]]:
    """Return the groups of parts with equal traits that are one acquisition each."""
    found: list[list[_Part]] = []
    left = list(parts)
    while left:
        group = [left.pop(0)]
        for member in group:  # it grows meanwhile: what belongs to a member belongs to the group
            for other in [other for other in left if _belong_together(member, other)]:
                left.remove(other)
                group.append(other)
        if len(group) > 1:
            found += [group] if _is_one_stack(group) else _unique_pairs(group)
    return found


def _unique_pairs(group: list[_Part]) -> list[list[_Part]]:
    """Return the pairs that make a stack, without those that have a part in common."""
    pairs = [pair for pair in combinations(group, 2) if _belong_together(*pair) and _is_one_stack(pair)]
    partners = [part.series.series_instance_uid for pair in pairs for part in pair]
    return [list(pair) for pair in pairs if all(partners.count(part.series.series_instance_uid) == 1 for part in pair)]


def _belong_together(one: _Part, other: _Part) -> bool:
    """Return whether two series with equal traits may have been measured as one acquisition."""
    if not same_direction(one.stack.orientation, other.stack.orientation):
        return False
    # Some scanners number every image; only one number for a whole series says something of the series.
    numbered_apart = {len(one.acquisition_numbers), len(other.acquisition_numbers)} == {1} and (
        one.acquisition_numbers != other.acquisition_numbers
    )
    pause = pause_s(one.stack, other.stack)
    if pause is None:
        names = {part.series.description.strip().lower() for part in (one, other)}
        return len(names) == 1 and names != {""} and not numbered_apart
    left, right = (part.stack.places_mm(one.stack.normal) for part in (one, other))
    if left[0] < right[-1] and right[0] < left[-1] and not _twice(left, right):  # they interleave
        return pause <= LONGEST_PAUSE_S
    steps = [later - earlier for part in (one, other) for earlier, later in pairwise(part.stack.times_s)]
    usual = 1.5 * median(steps) if steps else 0.0
    repetition = (one.stack.frames[0].instance.repetition_time_ms or 0.0) / 1000
    return not numbered_apart and pause <= max(SHORTEST_PAUSE_S, repetition, usual)


def _is_one_stack(parts: Sequence[_Part]) -> bool:
    """Return whether the slices of all parts are one regular stack in which each stands once."""
    first = parts[0].stack
    for axis in (first.orientation[:3], first.orientation[3:]):
        within = [place for part in parts for place in part.stack.places_mm(axis)]
        if max(within) - min(within) > SAME_PLACE_MM:
            return False
    stacks = [part.stack.places_mm(first.normal) for part in parts]
    if any(_twice(left, right) > MOST_TWICE * min(len(left), len(right)) for left, right in combinations(stacks, 2)):
        return False
    places = _once(stacks)
    gaps = [right - left for left, right in pairwise(places)]
    usual = median(gaps)
    thickness = first.frames[0].instance.slice_thickness_mm
    if len(places) < FEWEST or usual <= ROUNDING_MM or (thickness and usual > WIDEST_GAP * thickness):
        return False
    return all(abs(gap - usual) <= max(ROUNDING_MM, UNEVEN * usual) for gap in gaps)


def _twice(left: list[float], right: list[float]) -> int:
    """Return how many slices of two stacks stand at the same places."""
    return len(left) + len(right) - len(_once([left, right]))


def _once(stacks: list[list[float]]) -> list[float]:
    """Return the places of all stacks, ascending, each once."""
    places = sorted(place for stack in stacks for place in stack)
    return places[:1] + [later for earlier, later in pairwise(places) if later - earlier > ROUNDING_MM]
