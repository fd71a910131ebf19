"""Check what holds for objects of every class: valid UIDs, file meta information, patient and study of the sources."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydicom import config, dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicom_seg.check_references import Reference
from dicom_seg.known_objects import KnownObject, KnownObjects

_IDENTITY = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "AccessionNumber")
Identity = tuple[str, ...]
"""Values of the `_IDENTITY` attributes. They identify the patient and are never printed."""
_SOURCE_SERIES = ("DCM", "121232")
_ACQUISITION = "109101"


def check_uids(dataset: Dataset, known: KnownObjects) -> Iterator[str]:
    """Yield problems of UIDs: those that violate PS3.5 9.1, and a series that is also that of a source image."""
    for keyword, value in _own_uids(dataset):
        if not UID(value, config.IGNORE).is_valid:
            yield f"{keyword} holds no valid UID."
    if any(source.series_instance_uid == dataset.get("SeriesInstanceUID") for source in known.sources):
        yield "it is in the same series as a source image."


def check_file_header(dataset: Dataset, strict: bool) -> Iterator[str]:
    """Yield problems of the file meta information (PS3.10 7.1); `strict` demands the transfer syntax of our objects."""
    meta = getattr(dataset, "file_meta", Dataset())
    # A PACS may return an object in another syntax than it received; check_seg rejects compressed voxels.
    if strict and meta.get("TransferSyntaxUID") != ExplicitVRLittleEndian:
        yield "its transfer syntax is not Explicit VR Little Endian."
    if meta.get("MediaStorageSOPInstanceUID") != dataset.get("SOPInstanceUID"):
        yield "its file meta information names another SOP instance."
    if meta.get("MediaStorageSOPClassUID") != dataset.get("SOPClassUID"):
        yield "its file meta information names another SOP class."


def check_identity(
    dataset: Dataset, references: Sequence[Reference], known: KnownObjects, cache: dict[Path, Identity]
) -> Iterator[str]:
    """Yield the patient and study attributes that agree with none of the series that the object refers to.

    `cache` keeps what was read from source files from one object to the next.
    """
    sources = _one_image_per_series(dataset, references, known)
    identities = [_identity_in_file(source.image.path, cache) for source in sources if source.image]
    for keyword, found, *expected in zip(_IDENTITY, _identity(dataset), *identities, strict=True):
        if expected and found not in expected:
            yield f"its {keyword} is not that of source series {sources[0].series_instance_uid}."


def _one_image_per_series(dataset: Dataset, references: Sequence[Reference], known: KnownObjects) -> list[KnownObject]:
    """Return one image of each known series that is referred to; if there is none, any image of the same study."""
    by_uid = {source.image.sop_instance_uid: source for source in known.sources if source.image}
    referred = [by_uid[each.sop_instance_uid] for each in references if each.sop_instance_uid in by_uid]
    study = dataset.get("StudyInstanceUID")
    others = (each for each in known.sources if known.strict or each.study_instance_uid == study)
    found = referred or [*others][:1]
    return list({each.series_instance_uid: each for each in reversed(found)}.values())[::-1]


def _identity(header: Dataset) -> Identity:
    return tuple(str(header.get(keyword) or "") for keyword in _IDENTITY)


def _identity_in_file(path: Path, cache: dict[Path, Identity]) -> Identity:
    """Return the identity in a source file; empty values if the file can no longer be read."""
    if path not in cache:
        try:
            header: Dataset = dcmread(path, specific_tags=[*_IDENTITY], force=True)
        except (OSError, InvalidDicomError):
            header = Dataset()
        cache[path] = _identity(header)
    return cache[path]


def _own_uids(dataset: Dataset) -> Iterator[tuple[str, str]]:
    """Yield keyword and value of the UIDs that the object's creator generated.

    UIDs copied from a source are the scanner's; rejecting a malformed one would reject all of that scanner's studies.
    """
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
