"""Write DICOM data sets in JSON as Orthanc does: full, short (by tag) or human (by name). Without pixels."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
from pydicom import DataElement, Dataset
from pydicom.datadict import dictionary_is_retired, keyword_for_tag, tag_for_keyword
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import BaseTag, Tag

from pipeline.guarded_stream import PARSER_FAILURES
from plugin.orthanc_api.enums import DicomToJsonFlags, DicomToJsonFormat

_TOO_LONG = 256
"""In characters; Orthanc leaves longer values out of /tags."""
_BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_PIXEL_DATA = 0x7FE00010

Json = Any
"""A value of the module json."""


class JsonFormat(Enum):
    """The formats of DicomToJsonFormat."""

    FULL = DicomToJsonFormat.FULL
    SHORT = DicomToJsonFormat.SHORT
    HUMAN = DicomToJsonFormat.HUMAN


@dataclass(frozen=True, slots=True)
class JsonOptions:
    """Which elements are written to JSON, and how."""

    json_format: JsonFormat = JsonFormat.FULL
    flags: int = DicomToJsonFlags.INCLUDE_PRIVATE_TAGS | DicomToJsonFlags.INCLUDE_PIXEL_DATA
    longest: int = _TOO_LONG
    """Longer texts are left out; 0: none."""


class NotDicom(ValueError):
    """The bytes are not a DICOM file."""


def read_data_set(source: Path | bytes, stop_before_pixels: bool = True) -> Dataset:
    """Read a data set with its file meta information. Raises NotDicom, and OSError for a missing file."""
    return read_with_end(source, stop_before_pixels)[0]


def read_with_end(source: Path | bytes, stop_before_pixels: bool = True) -> tuple[Dataset, int]:
    """Read a data set, and return the offset at which reading ended: that of the pixels, if stopped there."""
    stream: BinaryIO = BytesIO(source) if isinstance(source, bytes) else source.open("rb")
    with stream:
        try:
            found = pydicom.dcmread(stream, stop_before_pixels=stop_before_pixels)
            return found, stream.tell()
        except OSError:
            raise
        except PARSER_FAILURES as exc:
            raise NotDicom(f"the data set does not parse ({type(exc).__name__})") from exc


def readable_elements(data_set: Dataset) -> Iterator[DataElement]:
    """Yield the elements of a data set whose values parse."""
    for tag in sorted(data_set.keys()):
        try:
            yield data_set[tag]
        except PARSER_FAILURES:
            continue


def to_json(data_set: Dataset, options: JsonOptions) -> dict[str, Json]:
    """Return the elements of a data set as a JSON object."""
    found: dict[str, Json] = {}
    for element in readable_elements(data_set):
        if _is_shown(element, options.flags):
            value = _value(element, options)
            if options.json_format is JsonFormat.HUMAN:
                found[tag_name(element.tag)] = value
            elif options.json_format is JsonFormat.SHORT:
                found[tag_text(element.tag)] = value
            else:
                found[tag_text(element.tag)] = _in_full(element, value)
    return found


def texts_to_json(texts: Mapping[int, str], form: JsonFormat) -> dict[str, Json]:
    """Return tags with their texts as a JSON object."""
    if form is JsonFormat.HUMAN:
        return {tag_name(tag): text for tag, text in texts.items()}
    if form is JsonFormat.SHORT:
        return {tag_text(tag): text for tag, text in texts.items()}
    return {tag_text(tag): {"Name": tag_name(tag), "Type": "String", "Value": text} for tag, text in texts.items()}


def element_text(element: DataElement) -> str | None:
    """Return the value of an element as Orthanc writes it; None for sequences and binary values."""
    if element.VR == "SQ":
        return None
    if element.VR in _BINARY:
        return "" if not element.value and element.tag != _PIXEL_DATA else None
    value = element.value
    if value is None:
        return ""
    many = value if isinstance(value, MultiValue | list) else [value]
    return "\\".join(_text(one, str(element.VR)) for one in many).strip(" \0")


def tag_text(tag: int) -> str:
    """Return a tag in the form 0010,0020."""
    return f"{tag >> 16:04x},{tag & 0xFFFF:04x}"


def tag_name(tag: int) -> str:
    """Return the name of a tag, as Orthanc writes it."""
    if BaseTag(tag).is_private_creator:
        return "PrivateCreator"
    name = keyword_for_tag(tag)
    if not name or BaseTag(tag).is_private:
        return "Unknown Tag & Data"
    # As DCMTK's dictionary has them; OtherPatientIDs is an exception that Orthanc makes.
    return f"RETIRED_{name}" if dictionary_is_retired(tag) and name != "OtherPatientIDs" else name


def parse_tag(text: str) -> int | None:
    """Return a tag given by name or as 0010,0020, 0010-0020 or 00100020; None where it is unknown."""
    digits = text.replace("-", "").replace(",", "")
    if len(digits) == 8:
        try:
            return int(digits, 16)
        except ValueError:
            pass
    return tag_for_keyword(text.removeprefix("RETIRED_"))


def _is_shown(element: DataElement, flags: int) -> bool:
    if element.tag.is_private:
        return bool(flags & DicomToJsonFlags.INCLUDE_PRIVATE_TAGS)
    if element.tag == _PIXEL_DATA:
        return bool(flags & DicomToJsonFlags.INCLUDE_PIXEL_DATA)
    if element.VR in _BINARY and not flags & DicomToJsonFlags.INCLUDE_BINARY:
        return bool(flags & DicomToJsonFlags.INCLUDE_PRIVATE_TAGS)
    return bool(flags & DicomToJsonFlags.INCLUDE_UNKNOWN_TAGS) or bool(keyword_for_tag(element.tag))


def _value(element: DataElement, options: JsonOptions) -> Json:
    if element.VR == "SQ":
        items: DicomSequence = element.value or DicomSequence()
        return [to_json(item, options) for item in items]
    text = element_text(element)
    return None if text is not None and 0 < options.longest < len(text) else text


def _in_full(element: DataElement, value: Json) -> dict[str, Json]:
    kind = "Sequence" if element.VR == "SQ" else "String"
    if value is None:
        kind = "Null" if element_text(element) is None else "TooLong"
    full: dict[str, Json] = {"Name": tag_name(element.tag), "Type": kind, "Value": value}
    if element.tag.is_private and not element.tag.is_private_creator and element.private_creator:
        full["PrivateCreator"] = element.private_creator
    return full


def _text(value: Any, vr: str) -> str:
    if vr == "AT":
        return tag_text(Tag(value))
    if vr in ("FL", "FD"):
        return format(float(value), ".9g" if vr == "FL" else ".17g")
    original = getattr(value, "original_string", None)
    return (original if isinstance(original, str) else str(value)).strip(" \0")
