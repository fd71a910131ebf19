"""Copy the patient, study and equipment elements of a source header byte for byte, with their character set.

Text is never decoded: what a console wrote under a wrong character set stays what it is, and other programs show it as
they show the source images.
"""

import re
import warnings
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta, timezone
from functools import cache

from highdicom._standard_utils import get_iod_module_map, get_module_attribute_map, get_sop_class_iod_map
from pydicom import config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag
from pydicom.uid import MRImageStorage
from pydicom.valuerep import validate_value

from pipeline.guarded_stream import PARSER_FAILURES

CHARACTER_SET, TIMEZONE_OFFSET = Tag(0x00080005), Tag(0x00080201)
EQUIPMENT_KEYWORDS = (
    "Manufacturer",
    "ManufacturerModelName",
    "SoftwareVersions",
    "DeviceSerialNumber",
    "StationName",
    "InstitutionName",
    "InstitutionalDepartmentName",
)
_EQUIPMENT = frozenset(Tag(keyword) for keyword in EQUIPMENT_KEYWORDS)
_IDENTITY = frozenset(Tag(keyword) for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex"))
_LONG_VRS = frozenset(("UC", "UR", "UT"))
_TEXT_VRS = _LONG_VRS | {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UI"}
_LONGEST_SHORT = 0xFFFE
"""Bytes of a value whose length has two bytes in Explicit VR (PS3.5 7.1.2)."""
_ZONE = re.compile(r"([+-])(\d\d)(\d\d)")
_EARLIEST, _LATEST = timedelta(hours=-12), timedelta(hours=14)
"""PS3.3 C.12.1.1.8"""


@cache
def copied_tags() -> tuple[BaseTag, ...]:
    """Return the tags of the patient and study modules of an MR image, the character set and the time zone."""
    modules, attributes = get_iod_module_map(), get_module_attribute_map()
    keywords = [
        str(attribute["keyword"])
        for module in modules[get_sop_class_iod_map()[MRImageStorage]]
        if module["ie"] in ("Patient", "Study")
        for attribute in attributes[module["key"]]
        if not attribute["path"]
    ]
    # The UID of the study is a key and not text; who reads it removes its padding.
    tags = {Tag(tag) for keyword in keywords if (tag := tag_for_keyword(keyword)) and keyword != "StudyInstanceUID"}
    return tuple(sorted((*tags, CHARACTER_SET, TIMEZONE_OFFSET)))


def copy_elements(header: Dataset, tags: Iterable[BaseTag]) -> Dataset:
    """Return the elements `tags` that a header has, as they are to be written in Explicit VR Little Endian.

    The header must be as it was read: pydicom decodes an element when it is accessed. Left out are elements of patient
    and equipment whose values violate their VR, such as an age of "0Y", because archives refuse them. What identifies
    the patient stays as it is.
    """
    copy = Dataset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's warnings quote values
        for tag in tags:
            element = _copied(header, tag)
            if element is not None:
                copy[tag] = element
        if time_zone(copy) is None and TIMEZONE_OFFSET in copy:
            del copy[TIMEZONE_OFFSET]
        keep_raw(copy)
    return copy


def keep_raw(dataset: Dataset) -> None:
    """Have pydicom write the elements that are not decoded as they are."""
    dataset.set_original_encoding(False, True, dataset._character_set)


def time_zone(dataset: Dataset) -> timezone | None:
    """Return the time zone of a data set (0008,0201); None where it is absent or none."""
    element = dataset.get_item(TIMEZONE_OFFSET)
    value = element.value if element is not None else b""
    text = (value.decode("latin-1") if isinstance(value, bytes) else str(value or "")).strip(" \0")
    found = _ZONE.fullmatch(text)
    if found is None or text == "-0000":
        return None
    sign, hours, minutes = found.groups()
    offset = timedelta(hours=int(hours), minutes=int(minutes)) * (-1 if sign == "-" else 1)
    return timezone(offset) if int(minutes) < 60 and _EARLIEST <= offset <= _LATEST else None


def in_zone(moment: datetime, copied: Dataset) -> datetime:
    """Return a moment in the time zone of the copied elements; without one as it is, in the zone of this host."""
    zone = time_zone(copied)
    return moment if zone is None else moment.astimezone(zone)


def replace_elements(dataset: Dataset, copied: Dataset) -> None:
    """Put the copied elements in place of those with the same tags."""
    for tag in copied.keys():  # noqa: SIM118 - iterating over a data set decodes its elements
        dataset[tag] = copied.get_item(tag)


def undecoded(dataset: Dataset) -> Iterator[RawDataElement | DataElement]:
    """Yield the elements of a data set without decoding them."""
    for tag in sorted(dataset.keys()):
        element = dataset.get_item(tag)
        if element is not None:
            yield element


def _copied(header: Dataset, tag: BaseTag) -> RawDataElement | DataElement | None:
    element = header.get_item(tag)
    if element is None:
        return None
    if not isinstance(element, RawDataElement):
        return _copied_items(element) if element.VR == "SQ" else element
    vr = _vr(element)
    if vr in _TEXT_VRS:
        raw = _raw_text(element, vr)
        checked = (tag.group == 0x0010 and tag not in _IDENTITY) or tag in _EQUIPMENT
        return raw if not checked or _is_valid(raw, header) else None
    try:
        parsed = convert_raw_data_element(element._replace(VR=vr), encoding=header.original_character_set, ds=header)
    except PARSER_FAILURES:
        return None
    return _copied_items(parsed) if vr == "SQ" else parsed


def _copied_items(element: DataElement) -> DataElement:
    items = [copy_elements(item, [*item.keys()]) for item in element.value or ()]
    return DataElement(element.tag, "SQ", Sequence(items))


def _raw_text(element: RawDataElement, vr: str) -> RawDataElement:
    value = element.value or b""
    if len(value) % 2:
        value += b"\0" if vr == "UI" else b" "
    if len(value) > _LONGEST_SHORT and vr not in _LONG_VRS:
        vr = "UN"  # PS3.5 6.2.2
    return RawDataElement(element.tag, vr, len(value), value, 0, False, True)


def _vr(element: RawDataElement) -> str:
    """Return the VR of the data dictionary; that of the file for private and unknown elements."""
    try:
        return dictionary_VR(element.tag)
    except KeyError:
        return str(element.VR or "UN")


def _is_valid(raw: RawDataElement, header: Dataset) -> bool:
    try:
        element = convert_raw_data_element(raw, encoding=header.original_character_set, ds=header)
        for value in element.value if isinstance(element.value, MultiValue) else [element.value]:
            validate_value(element.VR, str(value), config.RAISE)
    except PARSER_FAILURES:
        return False
    return True
