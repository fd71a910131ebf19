"""List the series of a study: size, geometry, role, and whether each can be read. Decodes no pixels."""

from dataclasses import dataclass

from models.labels import Role
from pipeline.choose import explain
from pipeline.errors import SeriesUnreadable
from pipeline.read import find_stack
from pipeline.rules import Rules
from pipeline.study import Series, Study
from pipeline.volume import Geometry

OBLIQUE = 0.9
"""Slices whose normal has no component (cosine) above this, about 26 degrees off, are oblique."""


@dataclass(frozen=True, slots=True)
class InspectedSeries:
    """One series as a row of a table."""

    series: Series
    image_count: int
    role: Role | None
    """Its role by itself; `choose.explain` says whether it would be chosen."""
    geometry: Geometry | None
    """None if it cannot be read as a volume."""
    plane: str
    """"axial", "sagittal", "coronal", "oblique", or "" without a geometry."""
    refusal: str
    """Name and message of the error, or "" if the series can be read."""
    notes: tuple[str, ...]


def inspect_study(study: Study, rules: Rules) -> tuple[InspectedSeries, ...]:
    """Inspect every series of a study, in the study's order."""
    return tuple(_inspect(one.series, one.classification.role) for one in explain(study, rules))


def _inspect(series: Series, role: Role | None) -> InspectedSeries:
    count = sum(one.number_of_frames for one in series.instances)
    try:
        stack = find_stack(series, role or Role.T1)
    except SeriesUnreadable as exc:
        return InspectedSeries(series, count, role, None, "", f"{type(exc).__name__}: {exc}", ())
    return InspectedSeries(series, count, role, stack.geometry, plane(stack.geometry), "", stack.notes)


def plane(geometry: Geometry) -> str:
    """Return the standard plane of the slices, by their normal (LPS)."""
    normal = [abs(step) / geometry.spacing_mm[0] for step in geometry.slice_step_mm]
    largest = max(range(3), key=lambda axis: normal[axis])
    return ("sagittal", "coronal", "axial")[largest] if normal[largest] >= OBLIQUE else "oblique"
