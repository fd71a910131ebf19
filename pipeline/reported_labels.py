"""Decide which labels of a model are reported of a study, by the series that it has."""

from collections.abc import Collection
from dataclasses import dataclass

from models.labels import LABELS, Label, Role
from models.package import ModelPackage
from pipeline.result import Inferred, NotReported


@dataclass(frozen=True, slots=True)
class ReportedLabels:
    """What a model reports of a study; everything is in the order of the labels' numbers."""

    labels: tuple[Label, ...]
    channels: tuple[int, ...]
    """The network's output channel of each label."""
    thresholds: tuple[float, ...]
    """The probability from which a voxel belongs to each label."""
    shown_by: tuple[tuple[Role, ...], ...]
    """The series that show each label: the one that defines it, or those that it is inferred from."""
    not_reported: tuple[NotReported, ...]
    inferred: tuple[Inferred, ...]


def reported_labels(package: ModelPackage, present: Collection[Role]) -> ReportedLabels:
    """Return the labels of `package` that are reported of a study with the series `present`.

    A label is reported where the series that defines it is there, or all that the package infers it from.
    """
    by_name = {label.name: label for label in LABELS}
    rows: list[tuple[Label, int, float, tuple[Role, ...]]] = []
    not_reported, inferred = [], []
    outputs = sorted(enumerate(package.labels), key=lambda output: by_name[output[1].name].number)
    for channel, output in outputs:
        label = by_name[output.name]
        if label.defined_on in present:
            rows.append((label, channel, output.threshold, (label.defined_on,)))
        elif output.inferred_from and set(output.inferred_from) <= set(present):
            rows.append((label, channel, output.threshold, output.inferred_from))
            inferred.append(Inferred(label, label.defined_on, output.inferred_from))
        else:
            not_reported.append(NotReported(label, label.defined_on))
    return ReportedLabels(
        labels=tuple(row[0] for row in rows),
        channels=tuple(row[1] for row in rows),
        thresholds=tuple(row[2] for row in rows),
        shown_by=tuple(row[3] for row in rows),
        not_reported=tuple(not_reported),
        inferred=tuple(inferred),
    )
