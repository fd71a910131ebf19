"""Read and write `dataset.json`, which lists the cases of a data set. docs/datasets.md describes the format."""

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from models.labels import Role
from pipeline.atomic_write import write_file
from pipeline.errors import GlionodeError

FORMAT: Literal[2] = 2
"""Version of the format on disk. A reader refuses every other version."""
MANIFEST_FILE = "dataset.json"
CASES_FOLDER = "cases"
ADC_UNIT = "10^-6 mm2/s"


class DatasetBroken(GlionodeError):
    """A data set is incomplete, contradictory, or does not match its manifest. The text is a sentence for a person."""


class Split(StrEnum):
    """What a case is used for."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


class DatasetSource(StrEnum):
    """What a data set was made from."""

    BRATS = "brats"
    DICOM = "dicom"


class Annotator(StrEnum):
    """Who annotated a label of a case."""

    PERSON = "person"
    NODE = "node"
    """The node itself, and no person changed the result."""
    NOBODY = "nobody"
    """No annotation mentions the label; it was taken for empty because the user asked for that."""


@dataclass(frozen=True, slots=True)
class CaseEntry:
    """One case as the manifest describes it."""

    case_id: str
    """Keyed hash of the study; the name of the case's folder."""
    patient: str
    """Keyed hash of the patient. All cases of a patient share it, and are in the same split."""
    split: Split
    annotators: tuple[tuple[str, Annotator], ...]
    """Who annotated each label of the data set: pairs of label and annotator."""
    fingerprint: str
    """SHA-256 of all voxels and of their grid; see `fingerprint.case_fingerprint`."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of `dataset.json`."""

    source: DatasetSource
    channels: tuple[Role, ...]
    labels: tuple[str, ...]
    spacing_mm: float
    """Edge of the isotropic voxels of every case."""
    seed: int
    """Seed of the random split."""
    key: str
    """Fingerprint of the key that made the pseudonyms. Under another key a patient has another pseudonym."""
    cases: tuple[CaseEntry, ...]
    """Sorted by case ID."""
    fingerprint: str
    """SHA-256 of everything above except seed and key. The provenance of a model names it."""


class _CaseInFile(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    patient: str
    drawn: dict[str, Annotator]
    fingerprint: str


class _ManifestFile(BaseModel):
    """The JSON document, key by key."""

    model_config = ConfigDict(extra="forbid", strict=True)

    format: Literal[2]
    source: DatasetSource
    channels: tuple[Role, ...]
    units: dict[Role, str]
    labels: tuple[str, ...]
    spacing_mm: float
    seed: int
    key: str
    splits: dict[Split, tuple[str, ...]]
    cases: dict[str, _CaseInFile]
    fingerprint: str


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write `dataset.json` atomically. It is written last: a data set without it is incomplete. Raises OSError."""
    document = _ManifestFile(
        format=FORMAT,
        source=manifest.source,
        channels=manifest.channels,
        units={role: ADC_UNIT if role is Role.ADC else "arbitrary" for role in manifest.channels},
        labels=manifest.labels,
        spacing_mm=manifest.spacing_mm,
        seed=manifest.seed,
        key=manifest.key,
        splits={split: tuple(case.case_id for case in manifest.cases if case.split is split) for split in Split},
        cases={
            case.case_id: _CaseInFile(patient=case.patient, drawn=dict(case.annotators), fingerprint=case.fingerprint)
            for case in manifest.cases
        },
        fingerprint=manifest.fingerprint,
    )
    write_file(folder / MANIFEST_FILE, json.dumps(document.model_dump(mode="json"), indent=1) + "\n")


def read_manifest(folder: Path) -> Manifest:
    """Read and validate `dataset.json`. Raises DatasetBroken; the text names the file and the first wrong key."""
    path = folder / MANIFEST_FILE
    try:
        text = path.read_bytes()
    except FileNotFoundError as exc:
        raise DatasetBroken(
            f"{folder} is not a data set: it has no {MANIFEST_FILE}. Make one with `glionode dataset`."
        ) from exc
    except OSError as exc:
        raise DatasetBroken(f"{path} cannot be read: {exc.strerror or exc}. Make the data set again.") from exc
    try:
        document = _ManifestFile.model_validate_json(text)
    except ValidationError as exc:
        first = exc.errors()[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "literal_error" and key == "format":
            raise DatasetBroken(
                f"{path}: format is {first['input']!r}; this version of glionode reads {FORMAT}."
            ) from exc
        raise DatasetBroken(f"{path}: {key + ': ' if key else ''}{first['msg']}. Make the data set again.") from exc
    splits: dict[str, Split] = {}
    for split, ids in document.splits.items():
        for case_id in ids:
            if case_id in splits:
                where = "the splits twice" if splits[case_id] is split else "two splits"
                raise DatasetBroken(f"{path}: case {case_id} is in {where}. Make the data set again.")
            splits[case_id] = split
    if set(splits) != set(document.cases):
        raise DatasetBroken(f"{path}: splits and cases do not list the same cases. Make the data set again.")
    return Manifest(
        source=document.source,
        channels=document.channels,
        labels=document.labels,
        spacing_mm=document.spacing_mm,
        seed=document.seed,
        key=document.key,
        cases=tuple(
            CaseEntry(case_id, case.patient, splits[case_id], tuple(case.drawn.items()), case.fingerprint)
            for case_id, case in sorted(document.cases.items())
        ),
        fingerprint=document.fingerprint,
    )
