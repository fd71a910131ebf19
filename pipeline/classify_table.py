"""Classify the series descriptions in a text file, as a dry run of the rules on a site's own descriptions."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass

from models.labels import Role
from pipeline.classify import classify
from pipeline.rules import HeaderFields, Rules

DESCRIPTION = "description"
_NUMBERS = {
    "EchoTime": "echo_time_ms",
    "RepetitionTime": "repetition_time_ms",
    "InversionTime": "inversion_time_ms",
    "DiffusionBValue": "b_value",
}
_WORDS = {
    "ImageType": "image_type",
    "ScanningSequence": "scanning_sequence",
    "MRAcquisitionType": "acquisition_type",
    "Modality": "modality",
    "BodyPartExamined": "body_part",
}
CONTRAST = "ContrastBolusAgent"


@dataclass(frozen=True, slots=True)
class ClassifiedLine:
    """A description with its classification."""

    description: str
    """With leading and trailing spaces."""
    role: Role | None
    confidence: float
    why: tuple[str, ...]


def classify_text(text: str, rules: Rules) -> tuple[ClassifiedLine, ...]:
    """Classify the lines of a list: one SeriesDescription per line, or a TSV with a column `description`.

    Further columns of a TSV add evidence under their DICOM keywords: ImageType, ContrastBolusAgent, EchoTime,
    InversionTime, RepetitionTime, ScanningSequence, MRAcquisitionType, DiffusionBValue, Modality, BodyPartExamined;
    values of one cell are separated by backslashes. Empty cells and blank lines of a plain list are ignored.
    """
    lines = text.removeprefix("\ufeff").splitlines()
    head = lines[0].split("\t") if lines else []
    if DESCRIPTION not in head:
        return tuple(_classify(line, None, rules) for line in lines if line.strip())
    reader = csv.DictReader(io.StringIO("\n".join(lines)), delimiter="\t", quoting=csv.QUOTE_NONE)
    rows = [{key: value or "" for key, value in row.items() if key is not None} for row in reader]
    agents = {bool(row.get(CONTRAST, "").strip()) for row in rows}
    return tuple(_classify(row[DESCRIPTION], _fields(row, agents), rules) for row in rows)


def as_tsv(lines: tuple[ClassifiedLine, ...]) -> str:
    """Format as TSV: description, role ("none" without one), confidence, why."""
    rows = ["description\trole\tconfidence\twhy"]
    rows += [f"{one.description}\t{one.role or 'none'}\t{one.confidence:.3f}\t{'; '.join(one.why)}" for one in lines]
    return "\n".join(rows) + "\n"


def _classify(description: str, fields: HeaderFields | None, rules: Rules) -> ClassifiedLine:
    found = classify(description, fields, rules)
    marks = tuple(f"{mark.source}: {mark.name} ({mark.effect})" for mark in found.marks)
    return ClassifiedLine(description, found.role, found.confidence, (*(one.text for one in found.evidence), *marks))


def _fields(row: Mapping[str, str], agents: set[bool]) -> HeaderFields:
    numbers = tuple((name, value) for key, name in _NUMBERS.items() if (value := _number(row.get(key, ""))) is not None)
    words = [
        (name, frozenset(part.strip().upper() for part in row[key].split("\\") if part.strip()))
        for key, name in _WORDS.items()
        if row.get(key, "").strip()
    ]
    if CONTRAST in row and agents == {True, False}:
        # The rows are not one study, so the tag is evidence where it is present, but not where it is absent.
        words.append(("contrast_agent", frozenset({"this one"} if row[CONTRAST].strip() else set())))
    return HeaderFields(numbers, tuple(words))


def _number(text: str) -> float | None:
    try:
        value = float(text.split("\\", maxsplit=1)[0])
    except ValueError:
        return None
    return value if abs(value) < 1e300 else None
