"""What every object must keep, whatever its kind: valid UIDs, its file header, the patient and study of its sources."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydicom import config, dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicom_seg.at_hand import AtHand, KnownObject
from dicom_seg.check_references import Reference

_IDENTITY = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "AccessionNumber")
Identity = tuple[str, ...]
"""Values of `_IDENTITY`; never printed."""
_SOURCE_SERIES = ("DCM", "121232")
_ACQUISITION = "109101"


def check_uids(dataset: Dataset, at_hand: AtHand) -> Iterator[str]:
    """UIDs that break PS3.5 9.1, and an object in a series of its sources."""
    for keyword, value in _own_uids(dataset):
        if not UID(value, config.IGNORE).is_valid:
            yield f"{keyword} holds no valid UID."
    if any(source.series_instance_uid == dataset.get("SeriesInstanceUID") for source in at_hand.sources):
        yield "it stands in a series of source images."


def check_file_header(dataset: Dataset, strict: bool) -> Iterator[str]:
    """PS3.10 7.1: the file meta information names the object. Ours are Explicit VR Little Endian."""
    meta = getattr(dataset, "file_meta", Dataset())
    # A PACS may give back in another syntax what it was sent; whether voxels are compressed is asked of a SEG.
    if strict and meta.get("TransferSyntaxUID") != ExplicitVRLittleEndian:
        yield "its transfer syntax is not Explicit VR Little Endian."
    if meta.get("MediaStorageSOPInstanceUID") != dataset.get("SOPInstanceUID"):
        yield "its file header names another SOP instance."
    if meta.get("MediaStorageSOPClassUID") != dataset.get("SOPClassUID"):
        yield "its file header names another SOP class."


def check_identity(
    dataset: Dataset, mentioned: Sequence[Reference], at_hand: AtHand, held: dict[Path, Identity]
) -> Iterator[str]:
    """Patient and study that are those of none of the series that the object refers to.

    `held` keeps what was read of a source from one object to the next.
    """
    sources = _one_of_each_series(dataset, mentioned, at_hand)
    identities = [_identity_in_file(source.image.path, held) for source in sources if source.image]
    for keyword, found, *wanted in zip(_IDENTITY, _identity(dataset), *identities, strict=True):
        if wanted and found not in wanted:
            yield f"its {keyword} is not that of source series {sources[0].series_instance_uid}."


def _one_of_each_series(dataset: Dataset, mentioned: Sequence[Reference], at_hand: AtHand) -> list[KnownObject]:
    """An image of each series that is referred to; where none is at hand, any of the same study."""
    by_uid = {source.image.sop_instance_uid: source for source in at_hand.sources if source.image}
    referred = [by_uid[each.sop_instance_uid] for each in mentioned if each.sop_instance_uid in by_uid]
    study = dataset.get("StudyInstanceUID")
    others = (each for each in at_hand.sources if at_hand.strict or each.study_instance_uid == study)
    found = referred or [*others][:1]
    return list({each.series_instance_uid: each for each in reversed(found)}.values())[::-1]


def _identity(header: Dataset) -> Identity:
    return tuple(str(header.get(keyword) or "") for keyword in _IDENTITY)


def _identity_in_file(path: Path, held: dict[Path, Identity]) -> Identity:
    """What a source's file says; nothing where it cannot be read any more."""
    if path not in held:
        try:
            header: Dataset = dcmread(path, specific_tags=[*_IDENTITY], force=True)
        except (OSError, InvalidDicomError):
            header = Dataset()
        held[path] = _identity(header)
    return held[path]


def _own_uids(dataset: Dataset) -> Iterator[tuple[str, str]]:
    """UIDs that its maker chose. Those copied from a source are the scanner's: refusing them refuses its patients."""
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        yield keyword, str(dataset.get(keyword, ""))
    for sequence, keyword in (
        ("DimensionOrganizationSequence", "DimensionOrganizationUID"),
        ("SegmentSequence", "TrackingUID"),
    ):
        yield from ((keyword, str(item.get(keyword))) for item in dataset.get(sequence) or () if keyword in item)
    for item in dataset.get("ContributingEquipmentSequence") or ():
        if "DeviceUID" in item and item.PurposeOfReferenceCodeSequence[0].CodeValue != _ACQUISITION:
            yield "DeviceUID", str(item.DeviceUID)
    yield from _uids_in_content(dataset)


def _uids_in_content(item: Dataset) -> Iterator[tuple[str, str]]:
    for child in item.get("ContentSequence") or ():
        if "UID" in child:
            concept = child.ConceptNameCodeSequence[0]
            code = (concept.get("CodingSchemeDesignator"), concept.get("CodeValue"))
            if code != _SOURCE_SERIES:
                yield f"the UID of content item {' '.join(map(str, code))}", str(child.UID)
        yield from _uids_in_content(child)
