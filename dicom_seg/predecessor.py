"""An earlier report of a study, as a report that takes its place names it. Knows no DICOM library."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Predecessor:
    """A report that was made of the study before more of its images came."""

    file_name: str
    """Says which of the reports it is; a report's successor has the same."""
    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str


def predecessors_of(
    file_name: str, predecessors: Iterable[Predecessor], written: Sequence[str]
) -> tuple[Predecessor, ...]:
    """Those that the report `file_name` takes the place of, out of all `predecessors` of the reports `written` now.

    A report that has no successor of its own, such as that of diameters where no lesion is measurable any more, is
    named by the first that is written, so that none of them is left standing.
    """
    return tuple(
        each
        for each in predecessors
        if each.file_name == file_name or (each.file_name not in written and file_name == written[0])
    )
