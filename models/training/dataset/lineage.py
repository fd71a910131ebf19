"""Record which patients a model package was trained on, by keyed hashes, and find them in another data set.

Two data sets can only be compared if their pseudonyms were made with the same key; otherwise the overlap is unknown.
"""

import json
from collections.abc import Set
from dataclasses import dataclass
from typing import Literal

from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass as validated_dataclass

from models.package import PATIENTS_FILE, IntendedUse, ModelPackage, PackageBroken
from models.validation import StrictModel, describe_first_error

FORMAT: Literal[1] = 1


@validated_dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid", strict=True))
class TrainingRecord:
    """One training run on a data set."""

    model: str
    """Name and version of the package that the run made: this package or one of its ancestors."""
    key: str
    """Fingerprint of the key that made the pseudonyms."""
    training: tuple[str, ...]
    """Patients whose images trained the weights."""
    validation: tuple[str, ...]
    """Patients whose images selected the epoch and the thresholds."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """All training runs that contributed to the weights of a package, those of its ancestors included."""

    records: tuple[TrainingRecord, ...]
    undocumented: tuple[str, ...] = ()
    """Name and version of the package or of ancestors that do not say which patients they were trained on."""

    def with_record(self, record: TrainingRecord) -> "Lineage":
        """Return the lineage extended by one training run."""
        return Lineage((*self.records, record), self.undocumented)


@dataclass(frozen=True, slots=True)
class Overlap:
    """How many of a group of patients contributed to a package."""

    patients: int
    """Number of patients in the group."""
    training: int
    validation: int
    """Patients used for validation and never for training."""
    unknown: tuple[str, ...]
    """Name and version of packages that cannot be compared: undocumented, or with pseudonyms of another key."""

    def warnings(self) -> tuple[str, ...]:
        """Return sentences for a person; empty if there is no overlap and nothing is unknown."""
        said = []
        if self.training or self.validation:
            said.append(
                f"Of {self.patients} patients, {self.training} are among those that the model, or one that it descends "
                f"from, was trained on, and {self.validation} more among those that its epoch and thresholds were "
                "chosen on. Their scores flatter the model."
            )
        if self.unknown:
            said.append(
                f"Whether any of {self.patients} patients is among those that {', '.join(self.unknown)} learned from "
                "cannot be known: the package does not say, or names its patients with another key."
            )
        return tuple(said)


class _PatientsFile(StrictModel):
    """The JSON document `patients.json`, key by key."""

    format: Literal[1]
    weights_sha256: str
    lessons: tuple[TrainingRecord, ...]
    untold: tuple[str, ...]


def find_overlap(lineage: Lineage, key: str, patients: Set[str]) -> Overlap:
    """Compare patients, whose pseudonyms a key of fingerprint `key` made, with those in the lineage of a package."""
    training = {patient for record in lineage.records for patient in record.training}
    validation = {patient for record in lineage.records for patient in record.validation} - training
    other_key = [record.model for record in lineage.records if record.key != key]
    return Overlap(
        patients=len(patients),
        training=len(patients & training),
        validation=len(patients & validation),
        unknown=tuple(dict.fromkeys((*lineage.undocumented, *other_key))),
    )


def lineage_json(lineage: Lineage, weights_sha256: str) -> str:
    """Return the content of `patients.json` for a package with these weights."""
    document = _PatientsFile(
        format=FORMAT, weights_sha256=weights_sha256, lessons=lineage.records, untold=lineage.undocumented
    )
    return json.dumps(document.model_dump(mode="json"), indent=1) + "\n"


def read_lineage(package: ModelPackage) -> Lineage:
    """Read `patients.json` of a package.

    Without the file, or if it belongs to other weights, the package itself is undocumented, unless it is a
    demonstration: these are trained on synthetic heads only. Raises PackageBroken if the file is damaged.
    """
    path = package.folder / PATIENTS_FILE
    demonstration = package.intended_use is IntendedUse.DEMONSTRATION
    undocumented = Lineage((), () if demonstration else (package_label(package),))
    try:
        document = _PatientsFile.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return undocumented
    except ValidationError as exc:
        raise PackageBroken(
            f"{path} is damaged, or of a newer glionode ({describe_first_error(exc)}); install the package again."
        ) from exc
    except OSError as exc:
        raise PackageBroken(f"{path} cannot be read: {exc.strerror or exc}; install the package again.") from exc
    if document.weights_sha256 != package.weights_sha256:
        return undocumented
    return Lineage(document.lessons, document.untold)


def package_label(package: ModelPackage) -> str:
    """Return name and version, as in "gliomas 1.2.0"."""
    return f"{package.name} {package.version}"
