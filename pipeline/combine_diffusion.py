"""Combine diffusion-weighted images that came in several series, so that an ADC map can be computed from them.

Some scanners and routers send b = 0 and b around 1000, or the trace images that the scanner computed, as series apart.
Uses headers only.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from pipeline.diffusion import B_UNWEIGHTED, B_WEIGHTED, MAPS, within
from pipeline.frames import PlacedFrame, list_frames
from pipeline.stack_places import Stack, pause_s, same_grid, stack_of
from pipeline.study import Series

LONGEST_PAUSE_S = 600.0
"""Time that may lie between the two weightings: a patient moves between examinations, not within a sequence."""


@dataclass(frozen=True, slots=True)
class CannotCombine:
    """Why two series, one of each weighting, are no source of an ADC map."""

    unweighted: Series
    weighted: Series
    reason: str
    """A clause about the two of them."""


def combine_diffusion(series: Iterable[Series]) -> Series | CannotCombine | None:
    """Return the images of both weightings as one series; None if one of the two weightings is nowhere.

    They must stand on one grid in one frame of reference, and have one echo time. The result has the UID of the
    weighted series, on whose images the map will be, and names all of them in `Series.joined`. Of several that could
    be combined, those nearest in time are, and among them the last.
    """
    stacks = [(one, stack) for one in series if (stack := _weighted_stack(one)) is not None]
    unweighted = [(one, stack) for one, stack in stacks if _has(stack, B_UNWEIGHTED)]
    weighted = [(one, stack) for one, stack in stacks if _has(stack, B_WEIGHTED)]
    refused: list[CannotCombine] = []
    pairs: list[tuple[float, float, str, Series, Series]] = []
    for rest, rest_stack in unweighted:
        for strong, strong_stack in weighted:
            if reason := _difference(rest_stack, strong_stack):
                refused.append(CannotCombine(rest, strong, reason))
            else:
                pause = pause_s(rest_stack, strong_stack) or 0.0
                last = -max(strong_stack.times_s, default=0.0)
                pairs.append((pause, last, strong.series_instance_uid, rest, strong))
    if not pairs:
        return refused[0] if refused else None
    nearest, *_, rest, strong = min(pairs, key=lambda pair: pair[:3])
    others = [one for pause, *_, first, one in pairs if first is rest and pause <= nearest]
    return _as_one(strong, tuple(dict.fromkeys((rest, *others))))


def _as_one(strong: Series, parts: tuple[Series, ...]) -> Series:
    ordered = sorted(parts, key=lambda one: (one.series_number or 0, one.series_instance_uid))
    # The first weighted image of each slice stands for the map: those of one series, whose UID the result has.
    others = [image for part in ordered if part is not strong for image in part.instances]
    return replace(strong, instances=(*strong.instances, *others), joined=tuple(ordered))


def _weighted_stack(series: Series) -> Stack | None:
    """Return the diffusion-weighted images of a series as a stack; None without any."""
    frames = tuple(
        one
        for one in list_frames(series)
        if one.b_value is not None and one.component == "M" and not MAPS & {*one.image_type, *one.instance.image_type}
    )
    return stack_of(frames) if frames else None


def _has(stack: Stack, limits: tuple[float, float]) -> bool:
    return any(one.b_value is not None and within(one.b_value, limits) for one in stack.frames)


def _difference(rest: Stack, strong: Stack) -> str:
    """Return what keeps two weightings apart; "" if nothing does."""
    if rest.frame_of_reference_uid != strong.frame_of_reference_uid:
        return "their frames of reference differ"
    if not same_grid(rest, strong):
        return "their slices do not stand at the same places"
    if not _same_echo(rest.frames, strong.frames):
        return "their echo times differ"
    if (pause_s(rest, strong) or 0.0) > LONGEST_PAUSE_S:
        return "they were not measured together"
    return ""


def _same_echo(rest: tuple[PlacedFrame, ...], strong: tuple[PlacedFrame, ...]) -> bool:
    """Return whether the echo times agree where both are known; computed images may lack them."""
    left, right = ({round(one.echo_time_ms) for one in each if one.echo_time_ms} for each in (rest, strong))
    return not left or not right or bool(left & right)
