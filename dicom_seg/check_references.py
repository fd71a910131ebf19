"""Find the references in an object and check that they resolve. Works on objects of any SOP class."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from dicom_seg.known_objects import KnownObjects

_SEQUENCES = (
    *("ReferencedSeriesSequence", "ReferencedInstanceSequence", "ReferencedSOPSequence", "SourceImageSequence"),
    *("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence", "ContentSequence"),
    *("StudiesContainingOtherReferencedInstancesSequence", "ReferencedImageSequence"),
)
"""Sequences that refer to composite objects. Sources of SEG frames are left out: check_seg compares each frame's
sources with the list of referenced instances."""


@dataclass(frozen=True, slots=True)
class Reference:
    """One reference to another object."""

    study_instance_uid: str
    """As the enclosing items say; "" where they name none. So is the series."""
    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    frames: tuple[int, ...]


def find_references(dataset: Dataset) -> tuple[Reference, ...]:
    """Return each distinct reference once, in the order of the object."""
    return tuple(dict.fromkeys(_references_in(dataset, "", "")))


def check_references(references: Sequence[Reference], study_instance_uid: str, known: KnownObjects) -> Iterator[str]:
    """Yield a sentence for each kind of reference that does not resolve, or describes its target wrongly.

    `study_instance_uid` is the referring object's own study.
    """
    faults: dict[str, dict[str, None]] = {}
    for reference in references:
        for fault in _faults(reference, study_instance_uid, known):
            faults.setdefault(fault, {})[reference.sop_instance_uid] = None
    for fault, uids in faults.items():
        more = f" and {len(uids) - 1} more" if len(uids) > 1 else ""
        yield f"it refers to {next(iter(uids))}{more}, {fault}."


def unknown_studies(references: Sequence[Reference], study_instance_uid: str, known: KnownObjects) -> tuple[str, ...]:
    """Return the UIDs of studies that are referred to but of which no image is known."""
    unresolved = (each for each in references if each.sop_instance_uid not in known.by_uid)
    studies = dict.fromkeys(each.study_instance_uid or study_instance_uid for each in unresolved)
    return tuple(uid for uid in studies if not known.covers(uid))


def _faults(reference: Reference, study_instance_uid: str, known: KnownObjects) -> Iterator[str]:
    target = known.by_uid.get(reference.sop_instance_uid)
    if target is None:
        if known.covers(reference.study_instance_uid or study_instance_uid):
            yield "which cannot be found"
        return
    if reference.sop_class_uid != target.sop_class_uid:
        yield "with the wrong SOP class"
    if reference.series_instance_uid not in ("", target.series_instance_uid):
        yield "in the wrong series"
    if reference.study_instance_uid not in ("", target.study_instance_uid):
        yield "in the wrong study"
    if not all(1 <= number <= target.number_of_frames for number in reference.frames):
        yield "with a frame number that does not exist there"


def _references_in(item: Dataset, study: str, series: str) -> Iterator[Reference]:
    if "ReferencedSOPInstanceUID" in item:
        yield Reference(
            study_instance_uid=study,
            series_instance_uid=series,
            sop_class_uid=str(item.get("ReferencedSOPClassUID", "")),
            sop_instance_uid=str(item.ReferencedSOPInstanceUID),
            frames=whole_numbers(item, "ReferencedFrameNumber"),
        )
    for keyword in _SEQUENCES:
        for child in item.get(keyword) or ():
            inner = str(child.get("SeriesInstanceUID", "")) if keyword == "ReferencedSeriesSequence" else series
            yield from _references_in(child, str(child.get("StudyInstanceUID", study)), inner)


def whole_numbers(item: Dataset, keyword: str) -> tuple[int, ...]:
    """Return the integers of an attribute with one or more values; none where it is absent or empty."""
    value = item.get(keyword)
    if value is None or value == "":
        return ()
    return (int(value),) if isinstance(value, str | int) else tuple(int(each) for each in value)
