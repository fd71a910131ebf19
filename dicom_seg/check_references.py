"""What an object refers to, and whether that is there. Knows no kind of object."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from dicom_seg.at_hand import AtHand

_WALKED = (
    *("ReferencedSeriesSequence", "ReferencedInstanceSequence", "ReferencedSOPSequence", "SourceImageSequence"),
    *("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence", "ContentSequence"),
    *("StudiesContainingOtherReferencedInstancesSequence", "ReferencedImageSequence"),
)
"""Where composite objects are named. Frames' sources are not here: whether they are listed is asked of each frame."""


@dataclass(frozen=True, slots=True)
class Reference:
    """One mention of another object."""

    study_instance_uid: str
    """As the items around it say, "" where they name none; so is the series."""
    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    frames: tuple[int, ...]


def references(dataset: Dataset) -> tuple[Reference, ...]:
    """Every mention once, in the order of the object."""
    return tuple(dict.fromkeys(_mentions(dataset, "", "")))


def check_references(mentioned: Sequence[Reference], study_instance_uid: str, at_hand: AtHand) -> Iterator[str]:
    """Mentions that lead nowhere, or to something else than they say. The study is the object's own."""
    faults: dict[str, dict[str, None]] = {}
    for reference in mentioned:
        for fault in _faults(reference, study_instance_uid, at_hand):
            faults.setdefault(fault, {})[reference.sop_instance_uid] = None
    for fault, uids in faults.items():
        more = f" and {len(uids) - 1} more" if len(uids) > 1 else ""
        yield f"it refers to {next(iter(uids))}{more} {fault}."


def unseen_studies(mentioned: Sequence[Reference], study_instance_uid: str, at_hand: AtHand) -> tuple[str, ...]:
    """UIDs of studies that are referred to and of which no image is at hand, so that nobody knows whether it is so."""
    lost = (each for each in mentioned if each.sop_instance_uid not in at_hand.known)
    studies = dict.fromkeys(each.study_instance_uid or study_instance_uid for each in lost)
    return tuple(uid for uid in studies if not at_hand.must_have(uid))


def _faults(reference: Reference, study_instance_uid: str, at_hand: AtHand) -> Iterator[str]:
    known = at_hand.known.get(reference.sop_instance_uid)
    if known is None:
        if at_hand.must_have(reference.study_instance_uid or study_instance_uid):
            yield "that cannot be found"
        return
    if reference.sop_class_uid != known.sop_class_uid:
        yield "by another SOP class than it has"
    if reference.series_instance_uid not in ("", known.series_instance_uid):
        yield "in another series than it stands in"
    if reference.study_instance_uid not in ("", known.study_instance_uid):
        yield "in another study than it stands in"
    if not all(1 <= number <= known.number_of_frames for number in reference.frames):
        yield "by a frame that it has not"


def _mentions(item: Dataset, study: str, series: str) -> Iterator[Reference]:
    if "ReferencedSOPInstanceUID" in item:
        yield Reference(
            study_instance_uid=study,
            series_instance_uid=series,
            sop_class_uid=str(item.get("ReferencedSOPClassUID", "")),
            sop_instance_uid=str(item.ReferencedSOPInstanceUID),
            frames=whole_numbers(item, "ReferencedFrameNumber"),
        )
    for keyword in _WALKED:
        for child in item.get(keyword) or ():
            inner = str(child.get("SeriesInstanceUID", "")) if keyword == "ReferencedSeriesSequence" else series
            yield from _mentions(child, str(child.get("StudyInstanceUID", study)), inner)


def whole_numbers(item: Dataset, keyword: str) -> tuple[int, ...]:
    """Whole numbers of an attribute of one or more values; none where it is absent or empty."""
    value = item.get(keyword)
    if value is None or value == "":
        return ()
    return (int(value),) if isinstance(value, str | int) else tuple(int(each) for each in value)
