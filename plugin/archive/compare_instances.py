"""Compare an object with the one that came before it under its SOP Instance UID.

A router sends the same image once more: in another transfer syntax, or with elements that it added or coerced. An
archive sends it again after the patient was corrected. Both are told from another image by its pixels, decoded, and by
the elements that give them their place and their scale.
"""

import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pydicom.datadict import dictionary_VR
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from pipeline.header import Header, NotDicom, read_header

_CHARACTER_SET, _SOP_CLASS, _FRAME_OF_REFERENCE = 0x00080005, 0x00080016, 0x00200052
_ACCESSION_NUMBER, _NAME, _ID, _ISSUER, _BIRTH_DATE, _SEX = (
    *(0x00080050, 0x00100010, 0x00100020),
    *(0x00100021, 0x00100030, 0x00100040),
)
_PATIENT = (_ACCESSION_NUMBER, _NAME, _ID, _ISSUER, _BIRTH_DATE, _SEX)
"""Whose image it is, and for which request: what results carry on."""
_IDENTITY_REMOVED = 0x00120062
_TRANSFER_SYNTAX = 0x00020010
_SHARED_GROUPS, _FRAME_GROUPS = 0x52009229, 0x52009230
_NESTED = (0x00209113, 0x00209116, 0x00289110, 0x00289145)
"""Sequences of functional groups with the elements of `_PLACEMENT` (PS3.3 C.7.6.16.2)."""
_PLACEMENT = {
    0x00200032: (1e-3, ()),  # ImagePositionPatient, mm
    0x00200037: (1e-4, ()),  # ImageOrientationPatient
    0x00280030: (1e-4, ()),  # PixelSpacing, mm
    0x00281052: (0.0, (0.0,)),  # RescaleIntercept
    0x00281053: (0.0, (1.0,)),  # RescaleSlope
}
"""Elements that give pixels their place and their scale; how much rounding may change them, and what absence means."""
_ROUNDING = 1e-6
_LARGEST_COUNT = 20_000
"""Frames of an enhanced image; beyond, it is not compared."""


class Kind(StrEnum):
    """What an object is to the one that came before it."""

    SAME_IMAGE = "same image"
    """Pixels, place, scale and patient are the same."""
    OTHER_PATIENT = "other patient"
    """The same image for another patient, or another request."""
    FIRST_UNREADABLE = "first unreadable"
    """The first has no pixels, or some that cannot be decoded; this one has, and patient and place are the same."""
    OTHER_IMAGE = "other image"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What an object is to the one that came before it, without a value of either."""

    kind: Kind
    tags: tuple[int, ...] = ()
    """The elements before the pixels that differ; Transfer Syntax UID (0002,0010) for the encoding."""
    why: str = ""
    """What makes it another image: a clause."""


_DOES_NOT_PARSE = "a data set that does not parse to its pixels"
_CUT = "pixels cut short"


def compare_instances(first: Path, second: Path) -> Comparison:  # noqa: PLR0911 - one for each kind and reason
    """Compare the file `second` with `first`, which came before it. Raises OSError."""
    try:
        new = read_header(second, None)
    except NotDicom:
        return Comparison(Kind.OTHER_IMAGE, why=_DOES_NOT_PARSE)
    try:
        old = read_header(first, None)
    except NotDicom:
        return Comparison(Kind.FIRST_UNREADABLE) if is_whole_image(second) else Comparison(Kind.OTHER_IMAGE, why=_CUT)
    encoding = () if old.transfer_syntax_uid == new.transfer_syntax_uid else (_TRANSFER_SYNTAX,)
    tags = (*encoding, *_differing_tags(old, new))
    if old.pixels is None and new.pixels is not None and _is_beginning(old, new) and is_whole_image(second):
        return Comparison(Kind.FIRST_UNREADABLE, tags)
    if old.text(_SOP_CLASS) != new.text(_SOP_CLASS):
        return Comparison(Kind.OTHER_IMAGE, tags, "another SOP class")
    if old.pixels is None and new.pixels is None:
        return _compare_others(old, new, tags)
    if not _same_placement(old, new):
        return Comparison(Kind.OTHER_IMAGE, tags, "another place or scale of the pixels")
    return _compare_images((first, old), (second, new), tags)


def compare_with_damaged(first: Path, second: Path) -> Comparison:
    """Compare the file `second` with `first`, which is known to be damaged. Raises OSError where `second` fails.

    What `first` says counts as far as it is read: a whole image takes its place, unless it is for another patient.
    """
    if not is_whole_image(second):
        return Comparison(Kind.OTHER_IMAGE, why=_CUT)
    try:
        old, new = read_patient(first), read_patient(second)
        if any(_value_changed(tag, found, new.text(tag)) for tag in _PATIENT if (found := old.text(tag))):
            return Comparison(Kind.OTHER_PATIENT)
    except (NotDicom, OSError):
        pass
    return Comparison(Kind.FIRST_UNREADABLE)


def is_whole_image(path: Path) -> bool:
    """Return whether a file parses and holds an object without pixels, or one whose pixels are whole and decode."""
    try:
        header = read_header(path, None)
    except NotDicom:
        return False
    return header.pixels is None or (_is_whole(header) and _is_decodable(path, header))


def patient_changed(first: Header, second: Header) -> bool:
    """Return whether `second` is for another patient or request than `first`, or for one where `first` names none.

    A value that `second` leaves out changes nothing, nor does a spelling. A copy from which the identity was removed
    names no patient.
    """
    if second.text(_IDENTITY_REMOVED) == "YES" != first.text(_IDENTITY_REMOVED):
        return False
    return any(_value_changed(tag, first.text(tag), second.text(tag)) for tag in _PATIENT)


def read_patient(path: Path) -> Header:
    """Read of a file what `patient_changed` needs. Raises NotDicom."""
    return read_header(path, (*_PATIENT, _IDENTITY_REMOVED))


def name_tags(tags: tuple[int, ...]) -> str:
    """Return tags as a person reads them."""
    most = 12
    more = f" and {len(tags) - most} more" if len(tags) > most else ""
    return ", ".join(f"({tag >> 16:04X},{tag & 0xFFFF:04X})" for tag in tags[:most]) + more


def _compare_images(first: tuple[Path, Header], second: tuple[Path, Header], tags: tuple[int, ...]) -> Comparison:
    from pipeline.same_pixels import Undecodable, same_beginning, same_pixels  # loads decoders, and is seldom needed

    changed = patient_changed(first[1], second[1])
    if not _is_whole(second[1]):
        return Comparison(Kind.OTHER_IMAGE, tags, _CUT)
    try:
        if _is_whole(first[1]):
            kind = Kind.OTHER_PATIENT if changed else Kind.SAME_IMAGE
            same = same_pixels(*first, *second)
        else:
            kind = Kind.FIRST_UNREADABLE
            same = not changed and same_beginning(*first, *second) and same_pixels(*second, *second)
    except Undecodable as exc:
        kind = Kind.FIRST_UNREADABLE
        same = not changed and exc.path == first[0] and _is_decodable(*second)
        if not same:
            return Comparison(Kind.OTHER_IMAGE, tags, str(exc))
    return Comparison(kind, tags) if same else Comparison(Kind.OTHER_IMAGE, tags, "other pixels")


def _is_beginning(old: Header, new: Header) -> bool:
    """Return whether all that `old` says is said by `new`, too; its last element may have been cut."""
    last = max((int(tag) for tag in old.dataset.keys()), default=0)  # noqa: SIM118 - parses nothing
    return not any(tag in old.dataset and tag != last for tag in _differing_tags(old, new))


def _is_whole(header: Header) -> bool:
    return header.pixels is not None and header.pixels.complete


def _is_decodable(path: Path, header: Header) -> bool:
    from pipeline.same_pixels import Undecodable, same_pixels

    try:
        return same_pixels(path, header, path, header)
    except Undecodable:
        return False


def _compare_others(old: Header, new: Header, tags: tuple[int, ...]) -> Comparison:
    """Compare objects without pixels, as reports: all that they say is their content."""
    content = [tag for tag in tags if tag not in (*_PATIENT, _TRANSFER_SYNTAX, _CHARACTER_SET)]
    if content:
        return Comparison(Kind.OTHER_IMAGE, tags, f"another content: {name_tags(tuple(content[:1]))}")
    return Comparison(Kind.OTHER_PATIENT if patient_changed(old, new) else Kind.SAME_IMAGE, tags)


def _value_changed(tag: int, first: str, second: str) -> bool:
    one, other = _comparable(tag, first), _comparable(tag, second)
    if not other or one == other:
        return False
    if tag == _ISSUER and not one:
        return False  # routers add it
    lost = re.compile("[?\ufffd]")  # what a wrong character set leaves of letters
    return not (tag == _NAME and lost.search(second) and not lost.search(first))


def _comparable(tag: int, text: str) -> str:
    """Return a value as two programs would write it that mean the same."""
    if tag == _NAME:
        text = text.split("=", maxsplit=1)[0]  # other groups are the same name in other scripts
        text = "".join(each for each in unicodedata.normalize("NFKD", text) if each.isalnum())  # without accents
    plain = "".join(unicodedata.normalize("NFKC", text).casefold().split())
    if tag == _BIRTH_DATE:
        return re.sub(r"[^0-9]", "", plain)
    if tag == _ID and plain.isdecimal():
        return plain.lstrip("0") or "0"  # archives that keep an ID as a number lose its leading zeros
    return plain


def _same_placement(one: Header, other: Header) -> bool:
    if one.text(_FRAME_OF_REFERENCE) != other.text(_FRAME_OF_REFERENCE):
        return False
    first, second = list(_placement(one)), list(_placement(other))
    return len(first) == len(second) and all(
        tag == other_tag and len(numbers) == len(others) and _are_close(numbers, others, _PLACEMENT[tag][0])
        for (tag, numbers), (other_tag, others) in zip(first, second, strict=True)
    )


def _are_close(numbers: tuple[float, ...], others: tuple[float, ...], rounding: float) -> bool:
    pairs = zip(numbers, others, strict=True)
    return all(math.isclose(one, other, rel_tol=_ROUNDING, abs_tol=rounding) for one, other in pairs)


def _placement(header: Header) -> Iterator[tuple[int, tuple[float, ...]]]:
    """Yield the elements of `_PLACEMENT` of an image and of its frames, those that are absent by their meaning."""
    for tag, (_, absent) in _PLACEMENT.items():
        yield tag, header.numbers(tag) or absent
    groups = (*header.items(_SHARED_GROUPS), *header.items(_FRAME_GROUPS))
    for group in groups[:_LARGEST_COUNT]:
        for sequence in _NESTED:
            for item in group.items(sequence):
                for tag in _PLACEMENT:
                    if numbers := item.numbers(tag):
                        yield tag, numbers


def _differing_tags(one: Header, other: Header) -> tuple[int, ...]:
    tags = sorted({int(tag) for header in (one, other) for tag in header.dataset.keys()})  # noqa: SIM118 - parses nothing
    return tuple(tag for tag in tags if tag & 0xFFFF and not _same_element(one, other, tag))


def _same_element(one: Header, other: Header, tag: int) -> bool:
    """Return whether an element of two data sets is the same, whatever their encodings."""
    if _is_sequence(one, tag) or _is_sequence(other, tag):
        first, second = one.items(tag), other.items(tag)
        return len(first) == len(second) and not any(
            _differing_tags(item, other_item) for item, other_item in zip(first, second, strict=True)
        )
    if (tag in one.dataset) != (tag in other.dataset):
        return False
    first_text, second_text = one.text(tag), other.text(tag)
    return first_text == second_text or (bool(numbers := one.numbers(tag)) and numbers == other.numbers(tag))


def _is_sequence(header: Header, tag: int) -> bool:
    element = header.dataset.get_item(tag, keep_deferred=True)
    if element is None:
        return False
    if element.VR == "SQ" or isinstance(element.value, Sequence):
        return True
    try:
        return element.VR in (None, "UN") and not BaseTag(tag).is_private and dictionary_VR(tag) == "SQ"
    except KeyError:
        return False
