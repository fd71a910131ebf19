"""Check what holds for objects of every class: valid UIDs, file meta information, patient and study of the sources."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydicom import config, dcmread
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicom_seg.check_references import Reference
from dicom_seg.known_objects import KnownObject, KnownObjects
from pipeline.study import PatientIdentity

_IDENTITY = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "AccessionNumber")
_STORED = (*_IDENTITY, "IssuerOfPatientID", "StudyID", "StudyDate", "StudyTime", "SpecificCharacterSet")
"""Attributes that objects of the node have byte for byte as their source."""
_TEXT_VRS = frozenset(("LO", "LT", "PN", "SH", "ST", "UC", "UT"))
# ISO_IR 13 (JIS X 0201) has a yen sign and an overline in place of the backslash and the tilde (PS3.5 6.1.2).
_PLAIN = re.compile(r"[\x20-\x5b\x5d-\x7d\r\n]*")
_COPIED_GROUPS = (0x0010, 0x0012, 0x0032, 0x0038)
"""Patient, clinical trial, requests and visits."""
_COPIED = frozenset(
    (
        *("AccessionNumber", "StudyID", "StudyDescription", "PositionReferenceIndicator"),
        *("ReferringPhysicianName", "ConsultingPhysicianName", "PhysiciansOfRecord", "NameOfPhysiciansReadingStudy"),
        *("ReferringPhysicianIdentificationSequence", "ConsultingPhysicianIdentificationSequence"),
        *("PhysiciansOfRecordIdentificationSequence", "PhysiciansReadingStudyIdentificationSequence"),
        *("ProcedureCodeSequence", "AdmittingDiagnosesDescription", "AdmittingDiagnosesCodeSequence"),
        *("IssuerOfAccessionNumberSequence", "ReasonForPerformedProcedureCodeSequence"),
    )
)
"""Attributes of the study, which come from the source."""
Identity = tuple[dict[str, bytes], dict[str, str]]
"""Values that identify the patient, as stored and as read. They are never printed."""
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


def check_texts(dataset: Dataset) -> Iterator[str]:
    """Yield a problem where a text of our own is not of the characters that all character sets of DICOM write alike.

    What is copied from the source images is in their character set, whatever the header says of it.
    """
    faulty = dict.fromkeys(_own_texts(dataset))
    if faulty:
        yield f"a text of our own is not plain ASCII: {', '.join(faulty)}."


def _own_texts(dataset: Dataset) -> Iterator[str]:
    """Yield the keywords of faulty texts outside of what is copied; frames of a SEG are left out for their number."""
    for element in dataset:
        keyword = element.keyword
        if element.tag.group in _COPIED_GROUPS or keyword in _COPIED or keyword == "PerFrameFunctionalGroupsSequence":
            continue
        if keyword == "ContributingEquipmentSequence":
            items = [each for each in element.value if each.PurposeOfReferenceCodeSequence[0].CodeValue != _ACQUISITION]
            yield from (name for item in items for name in _faulty_texts(item))
        else:
            yield from _faulty_in(element)


def _faulty_texts(item: Dataset) -> Iterator[str]:
    for element in item:
        yield from _faulty_in(element)


def _faulty_in(element: DataElement) -> Iterator[str]:
    if element.VR == "SQ":
        yield from (keyword for item in element.value for keyword in _faulty_texts(item))
    elif element.VR in _TEXT_VRS:
        values = element.value if isinstance(element.value, MultiValue) else [element.value]
        if not all(_PLAIN.fullmatch(str(value or "")) for value in values):
            yield element.keyword


def check_identity(
    dataset: Dataset, references: Sequence[Reference], known: KnownObjects, cache: dict[Path, Identity]
) -> Iterator[str]:
    """Yield the patient and study attributes that agree with none of the series that the object refers to.

    `cache` keeps what was read from source files from one object to the next.
    """
    sources = _one_image_per_series(dataset, references, known)
    expected = [_identity_in_file(source.image.path, cache) for source in sources if source.image]
    found = _identity(dataset)
    wrong = _disagreeing(found, expected, known.strict)
    if wrong and known.strict:
        # The node copies an image that names the patient best, which a capture, for example, need not refer to.
        series = {source.series_instance_uid for source in sources}
        others = (each.image for each in known.sources if each.image and each.series_instance_uid in series)
        expected += [_identity_in_file(image.path, cache) for image in others]
        wrong = _disagreeing(found, expected, known.strict)
    for keyword in wrong:
        yield f"its {keyword} is not that of source series {sources[0].series_instance_uid}."


def _disagreeing(found: Identity, expected: Sequence[Identity], strict: bool) -> tuple[str, ...]:
    """Return the attributes that are those of none of the expected identities; `strict` compares bytes."""
    wrong = []
    for keyword in _STORED if strict else _IDENTITY:
        kind = 0 if strict and all(keyword in stored for stored, _ in (found, *expected)) else 1
        if expected and found[kind][keyword] not in [each[kind][keyword] for each in expected]:
            wrong.append(keyword)
    return tuple(wrong)


def _one_image_per_series(dataset: Dataset, references: Sequence[Reference], known: KnownObjects) -> list[KnownObject]:
    """Return one image of each known series that is referred to; if there is none, any image of the same study."""
    by_uid = {source.image.sop_instance_uid: source for source in known.sources if source.image}
    referred = [by_uid[each.sop_instance_uid] for each in references if each.sop_instance_uid in by_uid]
    study = dataset.get("StudyInstanceUID")
    others = (each for each in known.sources if known.strict or each.study_instance_uid == study)
    found = referred or [*others][:1]
    of_series: dict[str, KnownObject] = {}
    for each in found:
        best = of_series.setdefault(each.series_instance_uid, each)
        if _names_better(each, best):
            of_series[each.series_instance_uid] = each
    return list(of_series.values())


def _names_better(one: KnownObject, other: KnownObject) -> bool:
    """Return whether an image says more of whose it is than another: some images of a series may leave it out."""
    mine, others = (image.patient if (image := each.image) else PatientIdentity() for each in (one, other))
    return (bool(mine.patient_id), bool(mine.birth_date)) > (bool(others.patient_id), bool(others.birth_date))


def _identity(header: Dataset) -> Identity:
    stored: dict[str, bytes] = {}
    for keyword in _STORED:  # before any of them is decoded
        element = header.get_item(keyword)
        if element is None or isinstance(element, RawDataElement):
            stored[keyword] = ((element and element.value) or b"").strip(b" \0")
    return stored, {keyword: str(header.get(keyword) or "") for keyword in _STORED}


def _identity_in_file(path: Path, cache: dict[Path, Identity]) -> Identity:
    """Return the identity in a source file; empty values if the file can no longer be read."""
    if path not in cache:
        try:
            header: Dataset = dcmread(path, specific_tags=[*_STORED], force=True)
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
