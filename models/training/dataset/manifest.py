"""`dataset.json`: what a data set holds, as a frozen value and as a file. Reads no voxels.

The form of a data set on disk is told in docs/datasets.md.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from models.labels import Role
from pipeline.atomic_write import write_file
from pipeline.errors import GlionodeError

FORMAT = 2
"""Version of the form on disk; a reader refuses a newer one."""
MANIFEST_FILE = "dataset.json"
CASES_FOLDER = "cases"
ADC_UNIT = "10^-6 mm2/s"


class DatasetBroken(GlionodeError):
    """A data set is incomplete, contradictory, or not what it says; the text is a sentence for a person."""


class Split(StrEnum):
    """What a case is for."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


class Source(StrEnum):
    """Where a data set was made from."""

    BRATS = "brats"
    DICOM = "dicom"


class Drawn(StrEnum):
    """Who drew a label of a case."""

    PERSON = "person"
    NODE = "node"
    """The node itself, and nobody changed it."""
    NOBODY = "nobody"
    """It was in no annotation and was taken for empty, because that was asked for."""


@dataclass(frozen=True, slots=True)
class CaseEntry:
    """What the manifest says of one case."""

    case_id: str
    """Keyed hash; the name of its folder."""
    patient: str
    """Keyed hash; two cases of one patient share it, and their split."""
    split: Split
    drawn: tuple[tuple[str, Drawn], ...]
    """For each label of the data set who drew it."""
    fingerprint: str
    """SHA-256 of all voxels and their place, see `fingerprint.py`."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """All of `dataset.json`."""

    source: Source
    channels: tuple[Role, ...]
    labels: tuple[str, ...]
    spacing_mm: float
    """Edge of the isotropic voxels of every case."""
    seed: int
    """Of the splits."""
    key: str
    """Fingerprint of the key that made the names: with another, a patient has another name."""
    cases: tuple[CaseEntry, ...]
    """In the order of their ids."""
    fingerprint: str
    """SHA-256 of all above but seed and key; a model's provenance names it."""


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write `dataset.json` whole or not at all: it is what says that a data set is complete. Raises OSError."""
    document = {
        "format": FORMAT,
        "source": manifest.source,
        "channels": list(manifest.channels),
        "units": {role: ADC_UNIT if role is Role.ADC else "arbitrary" for role in manifest.channels},
        "labels": list(manifest.labels),
        "spacing_mm": manifest.spacing_mm,
        "seed": manifest.seed,
        "key": manifest.key,
        "splits": {split.value: [case.case_id for case in manifest.cases if case.split is split] for split in Split},
        "cases": {
            case.case_id: {
                "patient": case.patient,
                "drawn": dict(case.drawn),
                "fingerprint": case.fingerprint,
            }
            for case in manifest.cases
        },
        "fingerprint": manifest.fingerprint,
    }
    write_file(folder / MANIFEST_FILE, json.dumps(document, indent=1) + "\n")


def read_manifest(folder: Path) -> Manifest:
    """What `dataset.json` says. Raises DatasetBroken."""
    path = folder / MANIFEST_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise DatasetBroken(
            f"{folder} is no data set: it has no {MANIFEST_FILE}. Make one with `glionode dataset`."
        ) from exc
    except (OSError, ValueError) as exc:
        raise DatasetBroken(f"{path} cannot be read: {exc}. Make the data set anew.") from exc
    found = document.get("format") if isinstance(document, dict) else None
    if found != FORMAT:
        raise DatasetBroken(f"{path}: format is {found!r}; this version of glionode reads {FORMAT}.")
    try:
        return _manifest(document)
    except KeyError as exc:
        raise DatasetBroken(f"{path}: {exc.args[0]} is missing. Make the data set anew.") from exc
    except (ValueError, TypeError, AttributeError) as exc:
        raise DatasetBroken(f"{path}: {exc}. Make the data set anew.") from exc


def _manifest(document: Mapping[str, Any]) -> Manifest:
    splits: dict[str, Split] = {}
    for name, ids in document["splits"].items():
        for case_id in ids:
            if case_id in splits:
                raise ValueError(f"case {case_id} is in two splits")
            splits[str(case_id)] = Split(name)
    if set(splits) != set(document["cases"]):
        raise ValueError("its splits and its cases are not the same")
    return Manifest(
        source=Source(document["source"]),
        channels=tuple(Role(name) for name in document["channels"]),
        labels=tuple(str(name) for name in document["labels"]),
        spacing_mm=float(document["spacing_mm"]),
        seed=int(document["seed"]),
        key=str(document["key"]),
        cases=tuple(
            CaseEntry(
                case_id=str(case_id),
                patient=str(entry["patient"]),
                split=splits[str(case_id)],
                drawn=tuple((str(label), Drawn(who)) for label, who in entry["drawn"].items()),
                fingerprint=str(entry["fingerprint"]),
            )
            for case_id, entry in sorted(document["cases"].items())
        ),
        fingerprint=str(document["fingerprint"]),
    )
