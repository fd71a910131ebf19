"""Collect the series of a study as candidates for roles, and rank them. Uses headers only, no pixels."""

import math
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

from models.labels import Role
from pipeline.classify import Classification, classify
from pipeline.header_fields import has_agent, header_fields, image_count
from pipeline.majority import majority
from pipeline.rules import Effect, Rules
from pipeline.study import Series, Study

HEAD_MM = 100.0
"""A stack shorter than this along its normal does not cover the brain."""
THIN_MM = 2.0
"""A spacing of slices up to this counts as a 3D acquisition."""
COMPLETE = 0.9
"""A series with less than this share of the slices of the longest one for its role was broken off."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A series with its classification and the measures by which it is ranked."""

    series: Series
    classification: Classification
    extent_mm: float
    """Distance from the first slice to the last."""
    spacing_mm: float
    images: int
    slices: int
    """Different positions along its normal; repeats and several volumes do not count."""
    volumetric: bool
    acquired_at: str
    complete: bool
    """Whether no image lacks pixels."""

    def size(self, role: Role) -> int:
        """Return how much of it there is: slices or, of diffusion, images with their directions."""
        return self.images if role is Role.DWI else self.slices


def list_candidates(study: Study, rules: Rules) -> tuple[Candidate, ...]:
    """Return every series of a study with what its ranking needs, in the order of the study."""
    agents = Counter(has_agent(one) for one in study.series if one.modality == "MR" and image_count(one) > 7)
    found: list[Candidate] = []
    for series in study.series:
        text = series.description if series.description.strip() else series.protocol_name
        classification = classify(text, header_fields(series, agents), rules, series.archive_type)
        extent, spacing, slices = _stack(series)
        kind = majority(one.acquisition_type for one in series.instances)
        found.append(
            Candidate(
                series=series,
                classification=classification,
                extent_mm=extent,
                spacing_mm=spacing,
                images=image_count(series),
                slices=slices,
                volumetric=kind == "3D" or spacing <= THIN_MM,
                acquired_at=_acquired_at(series),
                complete=all(one.has_pixels for one in series.instances),
            )
        )
    return tuple(found)


def ranked_for(candidates: tuple[Candidate, ...], role: Role) -> list[Candidate]:
    """Return the candidates for a role, the best first."""
    eligible = [
        one
        for one in candidates
        if one.classification.role is role
        and not one.classification.mark_names(Effect.NONE)
        and not one.classification.mark_names(Effect.REFUSE)
    ]
    most = {
        one.volumetric: max(other.size(role) for other in eligible if other.volumetric == one.volumetric)
        for one in eligible
    }
    return sorted(eligible, key=lambda one: tuple(value for _, value in _criteria(one, role, most[one.volumetric])))


def _criteria(one: Candidate, role: Role, most: int) -> tuple[tuple[str, float | str | tuple[int, ...]], ...]:
    """Return the ranking criteria of a candidate, the most important first.

    Each is a reason, and a value of which the smaller wins for that reason. `most` is the size of the largest.
    """
    later = tuple(-int(char) for char in one.acquired_at.ljust(20, "0")[:20])
    return (
        ("it is no reformat or processed copy", float(len(one.classification.mark_names(Effect.RANK)) > 0)),
        ("it covers the head", float(0 < one.extent_mm < HEAD_MM)),
        ("it is 3D or thin", float(not one.volumetric) if role not in (Role.ADC, Role.DWI) else 0.0),
        # Behind the criteria of quality: a damaged original should be sent again, not replaced by a worse series.
        ("its pixels are complete", float(not one.complete)),
        ("it was not broken off", float(one.size(role) < COMPLETE * most)),
        ("it was acquired last", later),
        ("its series number is higher", -float(one.series.series_number or 0)),
        ("its UID sorts first", one.series.series_instance_uid),
    )


def first_difference(best: Candidate, other: Candidate, role: Role) -> str:
    """Return the reason for which a candidate goes before another."""
    most = max(one.size(role) for one in (best, other))
    for (words, left), (_, right) in zip(_criteria(best, role, most), _criteria(other, role, most), strict=True):
        if left != right:
            return words
    return "both are equal"


def _acquired_at(series: Series) -> str:
    """Return the time of the middle image that has one: a single wrong date must not decide."""
    times = sorted(one.acquired_at for one in series.instances if one.acquired_at)
    return times[len(times) // 2] if times else ""


def _stack(series: Series) -> tuple[float, float, int]:
    """Return extent and typical spacing along the slice normal, in mm, and the number of slices.

    Without positions they come from the slice thickness and the number of images.
    """
    orientation = majority(one.orientation for one in series.instances)
    positions = [image.position_mm for one in series.instances for image in (one.frames or (one,)) if image.position_mm]
    if orientation is not None and len(positions) > 1:
        a, b, c, d, e, f = orientation
        normal = (b * f - c * e, c * d - a * f, a * e - b * d)
        places = sorted({round(sum(p * n for p, n in zip(one, normal, strict=True)), 2) for one in positions})
        if len(places) > 1:
            gaps = sorted(right - left for left, right in pairwise(places))
            return places[-1] - places[0], gaps[len(gaps) // 2], len(places)
    thickness = majority(one.slice_thickness_mm for one in series.instances)
    if thickness and math.isfinite(thickness):
        return thickness * image_count(series), thickness, image_count(series)
    return 0.0, math.inf, image_count(series)
