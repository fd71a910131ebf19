"""Collect the header fields of a series that rules test; the value of most images is the value of the series."""

from collections import Counter
from collections.abc import Callable

from pipeline.contrast_agent import names_agent
from pipeline.majority import majority
from pipeline.rules import HeaderFields
from pipeline.study import FrameHeader, Instance, Series

COMMON = 0.9
"""A word of ImageType that this share of the images has is the series'; stray images do not hide it."""


def header_fields(series: Series, agents: Counter[bool]) -> HeaderFields:
    """Return the fields that rules test. `agents` counts the study's MR series with and without a contrast agent."""
    images = series.instances
    frames = [(image, frame) for image in images for frame in (image.frames or (image,))]

    def usual(read: Callable[[Instance | FrameHeader], float | None]) -> float | None:
        """Return the value of most frames; where functional groups lack it, that of their image counts."""
        return majority(read(image) if (value := read(frame)) is None else value for image, frame in frames)

    numbers: dict[str, float | None] = {
        "echo_time_ms": usual(lambda one: one.echo_time_ms),
        "repetition_time_ms": usual(lambda one: one.repetition_time_ms),
        "inversion_time_ms": usual(lambda one: one.inversion_time_ms),
        "b_value": max((frame.b_value for _, frame in frames if frame.b_value is not None), default=None),
        "images": float(image_count(series)),
        "orientations": float(_orientation_count(images)),
        "colour": float(majority(_is_colour(one) for one in images) or False),
    }
    words = {
        "image_type": _common_words(images),
        "scanning_sequence": frozenset(majority(one.scanning_sequence for one in images) or ()),
        "acquisition_type": frozenset({majority(one.acquisition_type for one in images) or ""} - {""}),
        "contrast_agent": frozenset({_agent_word(has_agent(series), agents)}),
        "modality": frozenset({series.modality}),
        "body_part": frozenset({(majority(one.body_part for one in images) or "").upper()} - {""}),
    }
    return HeaderFields(
        tuple((name, value) for name, value in numbers.items() if value is not None), tuple(words.items())
    )


def _common_words(images: tuple[Instance, ...]) -> frozenset[str]:
    """Return the words of ImageType, and of FrameType in functional groups, that nearly all have which have any."""
    frames = ((one, frame) for one in images for frame in (one.frames or (one,)))
    typed = [words for one, frame in frames if (words := {*one.image_type, *frame.image_type})]
    counts = Counter(word for words in typed for word in words)
    return frozenset(word for word, count in counts.items() if count >= COMMON * len(typed))


def _is_colour(image: Instance) -> bool:
    return image.samples_per_pixel != 1 or image.photometric_interpretation in ("RGB", "PALETTE COLOR")


def has_agent(series: Series) -> bool:
    """Return whether most images of a series name a contrast agent; "none" and "no" do not count."""
    named = sum(names_agent(one) for one in series.instances)
    return 2 * named > len(series.instances)


def _agent_word(this: bool, agents: Counter[bool]) -> str:
    if agents[True] == 0:
        return "nowhere"
    if agents[False] == 0:
        return "every one"
    return "this one" if this else "not this one"


def image_count(series: Series) -> int:
    """Return the number of images of a series, counting the frames of multi-frame images."""
    return sum(one.number_of_frames for one in series.instances)


def _orientation_count(images: tuple[Instance, ...]) -> int:
    """Count the orientations in a series that differ by more than about 6 degrees."""
    found: list[tuple[float, ...]] = []
    for one in images:
        if one.orientation is not None and not any(_close(one.orientation, other) for other in found):
            found.append(one.orientation)
    return max(1, len(found))


def _close(left: tuple[float, ...], right: tuple[float, ...]) -> bool:
    return all(abs(a - b) < 0.1 for a, b in zip(left, right, strict=True))
