"""Read whose image an object is, and check that the images of a result are of one patient. Reads headers only.

What a header says is compared as a person would: without spaces, case, or the leading zeros of a number. A value that
is absent contradicts nothing, because anonymisers and consoles leave values out; it is a reason to say so. Two values
of patient ID, its issuer or the birth date do contradict: the ID is unique for its issuer only (PS3.3 C.7.1.1). Names
are spelt in many ways, so different names are only said.
"""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any, NamedTuple

from models.labels import Role
from pipeline.errors import PatientsDiffer
from pipeline.header import Header
from pipeline.remarks import Remark, RemarkKind
from pipeline.study import PatientIdentity, Series, Study

STUDY_DATE, PATIENT_NAME, PATIENT_ID, ISSUER, ISSUER_QUALIFIERS = (
    0x00080020,
    0x00100010,
    0x00100020,
    0x00100021,
    0x00100024,
)
BIRTH_DATE, SEX = 0x00100030, 0x00100040
_CHARACTER_SET, _STUDY_TIME, _STUDY_ID = 0x00080005, 0x00080030, 0x00200010
_ACCESSION_NUMBER, _REFERRING_PHYSICIAN = 0x00080050, 0x00080090
_DEMOGRAPHICS = (
    *(
        _CHARACTER_SET,
        STUDY_DATE,
        _STUDY_TIME,
        _ACCESSION_NUMBER,
        _REFERRING_PHYSICIAN,
        PATIENT_NAME,
        PATIENT_ID,
        ISSUER,
    ),
    *(BIRTH_DATE, SEX, _STUDY_ID),
)
IDENTITY_TAGS = (*_DEMOGRAPHICS, ISSUER_QUALIFIERS)
_UNIVERSAL_ENTITY_ID = 0x00400032

_EARLIEST_BIRTH = 1850
"""Birth dates before this year stand for an unknown one, as does the first day of 1900."""
_UNKNOWN_BIRTH = "19000101"
_DAYS = 1
"""Dates that differ by more days are told; an examination may pass midnight."""


def read_identity(header: Header) -> PatientIdentity:
    """Return whose image it is, normalised for comparing."""
    qualifiers = header.items(ISSUER_QUALIFIERS)
    return PatientIdentity(
        patient_id=_as_number(_folded(header.text(PATIENT_ID))),
        issuer=_folded(header.text(ISSUER)),
        issuer_id=_folded(qualifiers[0].text(_UNIVERSAL_ENTITY_ID)) if qualifiers else "",
        birth_date=_birth_date(header.text(BIRTH_DATE)),
        sex=sex if (sex := header.text(SEX).upper()) in ("F", "M") else "",
        name=_words(header.text(PATIENT_NAME)),
    )


def demographics_sha256(header: Header) -> str:
    """Return a digest of the bytes that tell patient and study, without padding: it changes when they are corrected."""
    values = hashlib.sha256()
    for tag in _DEMOGRAPHICS:
        values.update(b"%08x %s\n" % (tag, header.bare_bytes(tag)))
    return values.hexdigest()


def check_one_patient(series: Mapping[Role, Series]) -> None:
    """Check that all images of the chosen series are of one patient. Raises PatientsDiffer, which names the series."""
    images = [*_images(series)]
    expected = _agreed(images)
    found: dict[str, _Foreign] = {}
    for image in images:
        if titles := _differences(image.patient, expected):
            foreign = found.get(image.series_instance_uid, _Foreign(image.role, 0, ()))
            found[image.series_instance_uid] = _Foreign(
                foreign.role, foreign.images + 1, tuple(dict.fromkeys((*foreign.titles, *titles)))
            )
    if not found:
        return
    totals = Counter(image.series_instance_uid for image in images)
    parts = [
        f"series {uid} ({each.role}) has {each.images} of {totals[uid]} images with another {_listed(each.titles)}"
        for uid, each in found.items()
    ]
    others = [uid for uid in totals if uid not in found]
    than = f" than series {others[0]}" if others else " than the others"
    raise PatientsDiffer(
        f"The images are not all of one patient: {'; '.join(parts)}{than}. Find out whose images they are, have them "
        "corrected or removed in the archive, and send the study again."
    )


def agreed_identity(series: Mapping[Role, Series]) -> PatientIdentity:
    """Return the patient of the chosen series, without the name: each attribute as most series have it."""
    return _agreed([*_images(series)])


def identity_remarks(study: Study, series: Mapping[Role, Series]) -> tuple[Remark, ...]:
    """Return what is to be said of patient and dates of the chosen series, which are of one patient."""
    images = [*_images(series)]
    return (
        *_nameless(images),
        *_other_names(images),
        *_foreign_series(study, images),
        *_dates_apart(images),
    )


class _Image(NamedTuple):
    """An image of a chosen series; a copy of an image is one, too."""

    role: Role
    series_instance_uid: str
    """Of the image itself: the images of one volume may come in several series."""
    patient: PatientIdentity
    acquired_on: str
    study_date: str


class _Foreign(NamedTuple):
    """The images of a series that are of another patient."""

    role: Role
    images: int
    titles: tuple[str, ...]
    """The attributes in which it differs, such as "patient ID"."""


def _images(series: Mapping[Role, Series]) -> Iterator[_Image]:
    for role, each in series.items():
        for instance in each.instances:
            uid = instance.series_instance_uid or each.series_instance_uid
            for one in (instance, *instance.copies):
                yield _Image(role, uid, one.patient, one.acquired_on, one.study_date)


def _agreed(images: Sequence[_Image]) -> PatientIdentity:
    """Return the value of each attribute that most series have; where none leads, that of T1CE's series."""
    agreed: dict[str, Any] = {}
    for name in ("patient_id", "issuer", "issuer_id", "birth_date", "sex"):
        of_series: dict[tuple[Role, str], Counter[str]] = {}
        for image in images:
            if value := str(getattr(image.patient, name)):
                of_series.setdefault((image.role, image.series_instance_uid), Counter())[value] += 1
        votes: Counter[str] = Counter()
        for series in sorted(of_series, key=lambda series: series[0] is not Role.T1CE):
            votes[of_series[series].most_common(1)[0][0]] += 1
        if votes:
            agreed[name] = votes.most_common(1)[0][0]
    return replace(PatientIdentity(), **agreed)


def _differences(found: PatientIdentity, expected: PatientIdentity) -> tuple[str, ...]:
    """Return the titles of the attributes that contradict; an absent value contradicts nothing."""
    pairs = (
        ("patient ID", found.patient_id, expected.patient_id),
        ("issuer of the patient ID", found.issuer, expected.issuer),
        ("issuer of the patient ID", found.issuer_id, expected.issuer_id),
        ("birth date", found.birth_date, expected.birth_date),
    )
    different = [title for title, one, other in pairs if one and other and not _same(one, other, title)]
    # A sex is more often mistyped than two patients share both ID and birth date.
    known = found.patient_id and found.birth_date and expected.patient_id and expected.birth_date
    if not different and not known and found.sex and expected.sex and found.sex != expected.sex:
        different.append("sex")
    return tuple(dict.fromkeys(different))


def _same(one: str, other: str, title: str) -> bool:
    # A birth date may be known by its year or month alone.
    return one == other or (title == "birth date" and (one.startswith(other) or other.startswith(one)))


def _nameless(images: Sequence[_Image]) -> Iterator[Remark]:
    """Yield a remark on series with images that name no patient, where others do."""
    without = Counter(image.role for image in images if not image.patient.is_named)
    totals = Counter(image.role for image in images)
    if sum(without.values()) == len(images):
        return  # an anonymised study
    for role, count in without.items():
        what = "do not say" if count > 1 else "does not say"
        text = f"{count} of {totals[role]} images of {role} {what} whose they are: patient ID and birth date are empty."
        yield Remark(RemarkKind.IDENTITY, text, (role,))


def _other_names(images: Sequence[_Image]) -> Iterator[Remark]:
    """Yield a remark where names of two series have no word in common, as those of two people would."""
    names = [(image.role, image.patient.name) for image in images if image.patient.name]
    if not names:
        return
    role, name = names[0]
    for other, words in names[1:]:
        if not words & name:
            text = (
                f"The patient's names on {role} and {other} have no word in common. See that all images are of one "
                "patient."
            )
            yield Remark(RemarkKind.IDENTITY, text, tuple(dict.fromkeys((role, other))))
            return


def _foreign_series(study: Study, images: Sequence[_Image]) -> Iterator[Remark]:
    """Yield a remark on series of the study that were not chosen and are of another patient."""
    chosen, expected = {image.series_instance_uid for image in images}, _agreed(images)
    foreign = [
        each.series_instance_uid
        for each in study.series
        if each.series_instance_uid not in chosen
        and any(_differences(instance.patient, expected) for instance in each.instances)
    ]
    if len(foreign) == 1:
        text = f"Series {foreign[0]} of this study has images of another patient; it was not used."
        yield Remark(RemarkKind.IDENTITY, text)
    elif foreign:
        text = f"{len(foreign)} series of this study have images of another patient; they were not used."
        yield Remark(RemarkKind.IDENTITY, text)


def _dates_apart(images: Sequence[_Image]) -> Iterator[Remark]:
    """Yield remarks where images were acquired days apart, or days from the date of the study."""
    acquired: dict[Role, list[date]] = {}
    for image in images:
        if (day := _day(image.acquired_on)) is not None:
            acquired.setdefault(image.role, []).append(day)
    for role, days in acquired.items():
        if (spread := (max(days) - min(days)).days) > _DAYS:
            yield Remark(RemarkKind.DATES, f"The images of {role} were acquired over {spread} days.", (role,))
    usual = {role: Counter(days).most_common(1)[0][0] for role, days in acquired.items()}
    if not usual:
        return
    first = Role.T1CE if Role.T1CE in usual else next(iter(usual))
    for role, day in usual.items():
        if abs(apart := (day - usual[first]).days) > _DAYS:
            when = "after" if apart > 0 else "before"
            yield Remark(RemarkKind.DATES, f"{role} was acquired {abs(apart)} days {when} {first}.", (role, first))
    studies = Counter(day for image in images if (day := _day(image.study_date)) is not None)
    if studies and abs(apart := (usual[first] - studies.most_common(1)[0][0]).days) > _DAYS:
        when = "after" if apart > 0 else "before"
        text = f"{first} was acquired {abs(apart)} days {when} the date of the study."
        yield Remark(RemarkKind.DATES, text, (first,))


def _day(digits: str) -> date | None:
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:8]))
    except ValueError:
        return None


def date_digits(text: str) -> str:
    """Return the eight digits of a date or date and time; "" where it does not begin with a date."""
    digits = re.sub(r"[.\-/ ]", "", text)[:8]
    return digits if len(digits) == 8 and digits.isdecimal() and digits.isascii() else ""


def _listed(titles: Iterable[str]) -> str:
    *others, last = titles
    return f"{', '.join(others)} and {last}" if others else last


def _folded(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def _as_number(text: str) -> str:
    # Archives that keep an ID as a number lose its leading zeros.
    return (text.lstrip("0") or "0") if text.isdecimal() else text


def _birth_date(text: str) -> str:
    """Return the digits of year, month and day as far as they are known."""
    digits = re.sub(r"[^0-9]", "", text)[:8]
    if len(digits) not in (4, 6, 8) or int(digits[:4]) < _EARLIEST_BIRTH or digits == _UNKNOWN_BIRTH:
        return ""
    known = digits.removesuffix("00") if len(digits) == 8 else digits
    return known[:4] if known[4:6] == "00" else known


def _words(name: str) -> frozenset[str]:
    """Return the words of a name in Latin letters; accents are removed, other scripts left out."""
    plain = unicodedata.normalize("NFKD", name.split("=", maxsplit=1)[0].casefold())
    letters = "".join(each for each in plain if not unicodedata.combining(each))
    return frozenset(word for word in re.split(r"[\s^,.\-_']+", letters) if word.isascii() and word.isalpha())
