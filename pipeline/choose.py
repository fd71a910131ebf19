"""Choose the series of a study for the roles that a model needs. Uses headers only, no pixels."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from models.labels import Role
from pipeline.classify import Classification, classify
from pipeline.diffusion import is_derivable
from pipeline.majority import majority
from pipeline.remarks import Remark
from pipeline.rules import Effect, HeaderFields, Rules, load_rules
from pipeline.study import FrameHeader, Instance, Series, Study

__all__ = ["Choice", "Explained", "NotEligible", "Rules", "Selected", "choose", "explain", "load_rules"]

HEAD_MM = 100.0
"""A stack shorter than this along its normal does not cover the brain."""
THIN_MM = 2.0
"""A spacing of slices up to this counts as a 3D acquisition."""
COMPLETE = 0.9
"""A series with less than this share of the images of the longest one for its role was broken off."""
COMMON = 0.9
"""A word of ImageType that this share of the images has is the series'; stray images do not hide it."""

_TITLES = {
    Role.T1: "T1 before contrast",
    Role.T1CE: "T1 after contrast",
    Role.T2: "T2",
    Role.FLAIR: "FLAIR",
    Role.ADC: "ADC map",
    Role.DWI: "diffusion series",
}


@dataclass(frozen=True, slots=True)
class Choice:
    """The series chosen for a role."""

    role: Role
    series: Series
    why: tuple[str, ...]
    """Reasons for people, the deciding one first; no text from headers."""
    remarks: tuple[Remark, ...] = ()
    """What a reader of the result must know about the choice."""


@dataclass(frozen=True, slots=True)
class Selected:
    """A study with a series for every wanted role, in the order in which they were given."""

    choices: tuple[Choice, ...]

    def series(self, role: Role) -> Series:
        """Return the series chosen for a role. Raises KeyError."""
        for choice in self.choices:
            if choice.role is role:
                return choice.series
        raise KeyError(role)

    def why(self, role: Role) -> tuple[str, ...]:
        """Return the reasons for that series. Raises KeyError."""
        for choice in self.choices:
            if choice.role is role:
                return choice.why
        raise KeyError(role)


@dataclass(frozen=True, slots=True)
class NotEligible:
    """A study that lacks a wanted role. This is no failure: most studies are of something else."""

    reason: str
    missing: tuple[Role, ...]


@dataclass(frozen=True, slots=True)
class Explained:
    """A series with its classification and the decision on it."""

    series: Series
    classification: Classification
    taken_for: Role | None
    """The role that it would be chosen for."""
    ruled_out: tuple[str, ...]
    """Why it is not chosen for its role; empty if it is."""
    note: str = ""
    """What else it can be used for."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    series: Series
    classification: Classification
    extent_mm: float
    """Distance from the first slice to the last."""
    spacing_mm: float
    images: int
    volumetric: bool
    acquired_at: str
    complete: bool
    """Whether no image lacks pixels."""


def choose(study: Study, wanted: tuple[Role, ...], rules: Rules, derive_adc: bool = True) -> Selected | NotEligible:
    """Choose the series of a study for the wanted roles; return NotEligible if a role has none.

    The choice does not depend on the order of files. If there is no ADC map and `derive_adc` allows it, a diffusion
    series with b = 0 and b around 1000 is chosen instead; `pipeline.read` computes the map.
    """
    candidates = _candidates(study, rules)
    choices: list[Choice] = []
    missing: list[Role] = []
    for role in wanted:
        ranked = _ranked(candidates, role)
        sources = _diffusion(candidates) if role is Role.ADC and not ranked and derive_adc else []
        if sources:
            why = "there is no ADC map; it is computed from this diffusion series"
            choices.append(Choice(role, sources[0].series, (why, *_reasons(sources, Role.DWI))))
        elif ranked:
            choices.append(Choice(role, ranked[0].series, _reasons(ranked, role)))
        else:
            missing.append(role)
    if missing:
        titles = " and no ".join(_TITLES[role] for role in missing)
        return NotEligible(f"no {titles} among {len(study.series)} series", tuple(missing))
    return Selected(tuple(choices))


def explain(study: Study, rules: Rules) -> tuple[Explained, ...]:
    """Return every series with its evidence and the role that it would be chosen for, or why it would not."""
    candidates = _candidates(study, rules)
    ranked = {role: _ranked(candidates, role) for role in Role}
    explained: list[Explained] = []
    for candidate in candidates:
        role = candidate.classification.role
        best = ranked[role][0] if role is not None and ranked[role] else None
        if best is candidate:
            serves = not ranked[Role.ADC] and candidate in _diffusion(candidates)[:1]
            note = "there is no ADC map; one can be computed from this series" if serves else ""
            explained.append(Explained(candidate.series, candidate.classification, role, (), note))
            continue
        ruled_out = _ruled_out(candidate, best)
        explained.append(Explained(candidate.series, candidate.classification, None, ruled_out))
    return tuple(explained)


def _ruled_out(candidate: _Candidate, best: _Candidate | None) -> tuple[str, ...]:
    found = candidate.classification
    excluded = (*found.mark_names(Effect.NONE), *found.mark_names(Effect.REFUSE))
    if excluded:
        return excluded
    if found.role is None:
        return ("nothing says clearly what it is",) if found.evidence else ("nothing says what it is",)
    assert best is not None
    why = _first_difference(best, candidate, found.role)
    return (f"series {best.series.series_number} is better for {found.role}: {why}",)


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
        "images": float(_image_count(series)),
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
    """Return the words of ImageType that nearly all images have which have one."""
    typed = [set(one.image_type) for one in images if one.image_type]
    counts = Counter(word for words in typed for word in words)
    return frozenset(word for word, count in counts.items() if count >= COMMON * len(typed))


def _is_colour(image: Instance) -> bool:
    return image.samples_per_pixel != 1 or image.photometric_interpretation in ("RGB", "PALETTE COLOR")


def has_agent(series: Series) -> bool:
    """Return whether most images of a series name a contrast agent; "none" and "no" do not count."""
    named = sum(
        bool(one.contrast_agent) and str(one.contrast_agent).strip().lower() not in _NO_AGENT
        for one in series.instances
    )
    return 2 * named > len(series.instances)


_NO_AGENT = frozenset(
    {"", "no", "none", "n", "0", "nil", "-", "without", "no contrast", "ohne", "sans", "sin", "sem", "senza"}
)


def _agent_word(this: bool, agents: Counter[bool]) -> str:
    if agents[True] == 0:
        return "nowhere"
    if agents[False] == 0:
        return "every one"
    return "this one" if this else "not this one"


def _candidates(study: Study, rules: Rules) -> tuple[_Candidate, ...]:
    agents = Counter(has_agent(one) for one in study.series if one.modality == "MR" and _image_count(one) > 7)
    found: list[_Candidate] = []
    for series in study.series:
        text = series.description if series.description.strip() else series.protocol_name
        classification = classify(text, header_fields(series, agents), rules, series.archive_type)
        extent, spacing = _stack(series)
        kind = majority(one.acquisition_type for one in series.instances)
        found.append(
            _Candidate(
                series=series,
                classification=classification,
                extent_mm=extent,
                spacing_mm=spacing,
                images=_image_count(series),
                volumetric=kind == "3D" or spacing <= THIN_MM,
                acquired_at=_acquired_at(series),
                complete=all(one.has_pixels for one in series.instances),
            )
        )
    return tuple(found)


def _ranked(candidates: tuple[_Candidate, ...], role: Role) -> list[_Candidate]:
    """Return the candidates for a role, the best first."""
    eligible = [
        one
        for one in candidates
        if one.classification.role is role
        and not one.classification.mark_names(Effect.NONE)
        and not one.classification.mark_names(Effect.REFUSE)
    ]
    most = {
        one.volumetric: max(other.images for other in eligible if other.volumetric == one.volumetric)
        for one in eligible
    }
    return sorted(eligible, key=lambda one: tuple(value for _, value in _criteria(one, role, most[one.volumetric])))


def _diffusion(candidates: tuple[_Candidate, ...]) -> list[_Candidate]:
    """Return the diffusion series from which an ADC map can be computed, the best first."""
    return [one for one in _ranked(candidates, Role.DWI) if is_derivable(one.series)]


def _criteria(one: _Candidate, role: Role, most: int) -> tuple[tuple[str, float | str | tuple[int, ...]], ...]:
    """Return the ranking criteria of a candidate, the most important first.

    Each is a reason, and a value of which the smaller wins for that reason. `most` is the largest number of images.
    """
    later = tuple(-int(char) for char in one.acquired_at.ljust(20, "0")[:20])
    return (
        ("it is no reformat or processed copy", float(len(one.classification.mark_names(Effect.RANK)) > 0)),
        ("it covers the head", float(0 < one.extent_mm < HEAD_MM)),
        ("it is 3D or thin", float(not one.volumetric) if role not in (Role.ADC, Role.DWI) else 0.0),
        # Behind the criteria of quality: a damaged original should be sent again, not replaced by a worse series.
        ("its pixels are complete", float(not one.complete)),
        ("it was not broken off", float(one.images < COMPLETE * most)),
        ("it was acquired last", later),
        ("its series number is higher", -float(one.series.series_number or 0)),
        ("its UID sorts first", one.series.series_instance_uid),
    )


def _first_difference(best: _Candidate, other: _Candidate, role: Role) -> str:
    most = max(one.images for one in (best, other))
    for (words, left), (_, right) in zip(_criteria(best, role, most), _criteria(other, role, most), strict=True):
        if left != right:
            return words
    return "both are equal"


def _reasons(ranked: list[_Candidate], role: Role) -> tuple[str, ...]:
    best = ranked[0]
    reasons = [f"{_TITLES[role]} with confidence {best.classification.confidence:.2f}"]
    reasons += [
        f"before series {other.series.series_number}: {_first_difference(best, other, role)}" for other in ranked[1:]
    ]
    reasons += [item.text for item in best.classification.evidence if dict(item.weights).get(role)]
    return tuple(reasons)


def _image_count(series: Series) -> int:
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


def _acquired_at(series: Series) -> str:
    """Return the time of the middle image that has one: a single wrong date must not decide."""
    times = sorted(one.acquired_at for one in series.instances if one.acquired_at)
    return times[len(times) // 2] if times else ""


def _stack(series: Series) -> tuple[float, float]:
    """Return extent and typical spacing along the slice normal, in mm; from the slice thickness without positions."""
    orientation = majority(one.orientation for one in series.instances)
    positions = [image.position_mm for one in series.instances for image in (one.frames or (one,)) if image.position_mm]
    if orientation is not None and len(positions) > 1:
        a, b, c, d, e, f = orientation
        normal = (b * f - c * e, c * d - a * f, a * e - b * d)
        places = sorted({round(sum(p * n for p, n in zip(one, normal, strict=True)), 2) for one in positions})
        if len(places) > 1:
            gaps = sorted(right - left for left, right in pairwise(places))
            return places[-1] - places[0], gaps[len(gaps) // 2]
    thickness = majority(one.slice_thickness_mm for one in series.instances)
    if thickness and math.isfinite(thickness):
        return thickness * _image_count(series), thickness
    return 0.0, math.inf
