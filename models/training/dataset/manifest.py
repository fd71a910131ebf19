"""Read and write `dataset.json`, which lists the cases of a data set. docs/datasets.md describes the format."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

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
    PROGRAM = "program"
    """Another program than the node, and no person changed the result."""
    RULE = "rule"
    """It follows from other labels or from the images by a rule."""
    NODE = "node"
    """The node itself, and no person changed the result."""
    NOBODY = "nobody"
    """No annotation mentions the label; it was taken for empty because the user asked for that. A label that nobody
    looked for and that nobody asked to be taken for empty is absent from the case instead."""


@dataclass(frozen=True, slots=True)
class CaseEntry:
    """One case as the manifest describes it."""

    case_id: str
    """Keyed hash of the study; the name of the case's folder."""
    patient: str
    """Keyed hash of the patient. All cases of a patient share it, and are in the same split."""
    split: Split
    annotators: tuple[tuple[str, Annotator], ...]
    """Who annotated each label of the case: pairs of label and annotator. A label that is not among them is absent."""
    fingerprint: str
    """SHA-256 of all voxels and of their grid; see `fingerprint.case_fingerprint`."""
    channels: tuple[Role, ...]
    """The channels of the case, in the order of the data set's."""
    images: tuple[tuple[Role, str], ...]
    """`fingerprint.image_fingerprint` of each channel; () in a data set of format 2, which does not state them."""


class CaseDocument(StrictModel):
    """One case as `dataset.json` stores it."""

    patient: str
    images: dict[Role, str] = Field(default_factory=dict)
    """Image fingerprint of each channel that the case has; left out in format 2, where every case has all channels."""
    drawn: dict[str, Annotator]
    fingerprint: str


class Manifest(StrictModel):
    """The document `dataset.json`, key by key."""

    format: Literal[2, 3]
    """Version of the format on disk. Until 2 every case had all channels and labels. Other versions are refused."""
    source: DatasetSource
    channels: tuple[Role, ...]
    """Those that at least one case has."""
    units: dict[Role, str]
    labels: tuple[str, ...]
    """Those that at least one case has."""
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
            CaseEntry(
                case_id=case_id,
                patient=case.patient,
                split=splits[case_id],
                annotators=tuple(case.drawn.items()),
                fingerprint=case.fingerprint,
                channels=tuple(role for role in self.channels if self.format == 2 or role in case.images),
                images=tuple(case.images.items()),
            )
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
            raise DatasetBroken(
                f"{path}: format is {first['input']!r}; this version of glionode reads 2 and 3."
            ) from exc
        raise DatasetBroken(f"{path}: {describe_first_error(exc)}. Make the data set again.") from exc
    listed = Counter(case_id for ids in manifest.splits.values() for case_id in ids)
    if repeated := [case_id for case_id, count in listed.items() if count > 1]:
        raise DatasetBroken(f"{path}: splits list case {repeated[0]} more than once. Make the data set again.")
    if set(listed) != set(manifest.cases):
        raise DatasetBroken(f"{path}: splits and cases do not list the same cases. Make the data set again.")
    if wrong := next(_contradictions(manifest), None):
        raise DatasetBroken(f"{path}: {wrong}. Make the data set again.")
    return manifest


def _contradictions(manifest: Manifest) -> Iterator[str]:
    """Yield clauses on cases whose channels or labels are not those that the data set lists."""
    channels, labels = set(manifest.channels), set(manifest.labels)
    for case_id, case in sorted(manifest.cases.items()):
        if manifest.format == 2:
            if case.images or set(case.drawn) != labels:
                yield f"case {case_id} has other channels or labels than the data set, which format 2 does not know"
            continue
        if not case.images or not case.drawn:
            yield f"case {case_id} has no {'labels' if case.images else 'channels'}"
        if unlisted := [*sorted(set(case.images) - channels), *sorted(set(case.drawn) - labels)]:
            yield f"case {case_id} has {unlisted[0]}, which is not among the data set's channels and labels"
