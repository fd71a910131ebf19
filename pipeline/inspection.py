"""What is in a study, series by series: size, place, role, readable or why not. Decodes no pixels."""

from dataclasses import dataclass

from models.labels import Role
from pipeline.choose import explain
from pipeline.errors import SeriesUnreadable
from pipeline.read import stack_of
from pipeline.rules import Rules
from pipeline.study import Series, Study
from pipeline.volume import Geometry

OBLIQUE = 0.9
"""A normal whose largest component (cosine) is below this, about 26 degrees off, belongs to no standard plane."""


@dataclass(frozen=True, slots=True)
class InspectedSeries:
    """One series as a row of a table."""

    series: Series
    image_count: int
    role: Role | None
    """What it is by itself; whether it would be taken is for `explain`"""
    geometry: Geometry | None
    """None where it does not become a volume"""
    plane: str
    """"axial", "sagittal", "coronal", "oblique", or "" without a geometry"""
    refusal: str
    """The error's name and sentence, or "" where the series can be read"""
    notes: tuple[str, ...]


def inspect_study(study: Study, rules: Rules) -> tuple[InspectedSeries, ...]:
    """Every series of a study, in the study's order."""
    return tuple(_inspected(one.series, one.classification.role) for one in explain(study, rules))


def _inspected(series: Series, role: Role | None) -> InspectedSeries:
    count = sum(one.number_of_frames for one in series.instances)
    try:
        stack = stack_of(series, role or Role.T1)
    except SeriesUnreadable as exc:
        return InspectedSeries(series, count, role, None, "", f"{type(exc).__name__}: {exc}", ())
    return InspectedSeries(series, count, role, stack.geometry, plane(stack.geometry), "", stack.notes)


def plane(geometry: Geometry) -> str:
    """The standard plane of the slices, by their normal (LPS)."""
    normal = [abs(step) / geometry.spacing_mm[0] for step in geometry.slice_step_mm]
    largest = max(range(3), key=lambda axis: normal[axis])
    return ("sagittal", "coronal", "axial")[largest] if normal[largest] >= OBLIQUE else "oblique"
