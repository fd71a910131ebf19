"""Refer to an earlier report of a study from the report that replaces it.

A module of its own without DICOM libraries, because the job queue stores these references.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Predecessor:
    """A report that was made before more images of its study arrived."""

    file_name: str
    """Identifies the kind of report; a report and its successor have the same."""
    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str


def find_predecessors(
    file_name: str, predecessors: Iterable[Predecessor], written: Sequence[str]
) -> tuple[Predecessor, ...]:
    """Return those of `predecessors` that the report `file_name` replaces; `written` names all reports written now.

    A report without a successor of its own, such as that of diameters when no lesion is measurable any more, is
    replaced by the first report that is written, so that each one has a successor.
    """
    return tuple(
        each
        for each in predecessors
        if each.file_name == file_name or (each.file_name not in written and file_name == written[0])
    )
