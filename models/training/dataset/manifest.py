"""Read and write `dataset.json`, which lists the cases of a data set. docs/datasets.md describes the format."""

import json
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from models.labels import Role
from models.validation import StrictModel, describe_first_error
from pipeline.atomic_write import write_file
from pipeline.errors import GlionodeError

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


class CaseDocument(StrictModel):
    """One case as `dataset.json` stores it."""

    patient: str
    drawn: dict[str, Annotator]
    fingerprint: str


class Manifest(StrictModel):
    """The document `dataset.json`, key by key."""

    format: Literal[2]
    """Version of the format on disk. A reader refuses every other version."""
    source: DatasetSource
    channels: tuple[Role, ...]
    units: dict[Role, str]
    labels: tuple[str, ...]
    spacing_mm: float
    """Edge of the isotropic voxels of every case."""
    seed: int
    """Seed of the random split."""
    key: str
    """Fingerprint of the key that made the pseudonyms. Under another key a patient has another pseudonym."""
    splits: dict[Split, tuple[str, ...]]
    cases: dict[str, CaseDocument]
    fingerprint: str
    """SHA-256 of everything above except seed and key. The provenance of a model names it."""

    def entries(self) -> tuple[CaseEntry, ...]:
        """Return the cases, sorted by case ID."""
        splits = {case_id: split for split, ids in self.splits.items() for case_id in ids}
        return tuple(
            CaseEntry(case_id, case.patient, splits[case_id], tuple(case.drawn.items()), case.fingerprint)
            for case_id, case in sorted(self.cases.items())
        )


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write `dataset.json` atomically. It is written last: a data set without it is incomplete. Raises OSError."""
    write_file(folder / MANIFEST_FILE, json.dumps(manifest.model_dump(mode="json"), indent=1) + "\n")


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
        manifest = Manifest.model_validate_json(text)
    except ValidationError as exc:
        first = exc.errors()[0]
        if first["type"] == "literal_error" and first["loc"] == ("format",):
            raise DatasetBroken(f"{path}: format is {first['input']!r}; this version of glionode reads 2.") from exc
        raise DatasetBroken(f"{path}: {describe_first_error(exc)}. Make the data set again.") from exc
    listed = Counter(case_id for ids in manifest.splits.values() for case_id in ids)
    if repeated := [case_id for case_id, count in listed.items() if count > 1]:
        raise DatasetBroken(f"{path}: splits list case {repeated[0]} more than once. Make the data set again.")
    if set(listed) != set(manifest.cases):
        raise DatasetBroken(f"{path}: splits and cases do not list the same cases. Make the data set again.")
    return manifest
