"""Whom a package has learned from, by the keyed hashes of its data sets, and whether one meets them again.

Patients of data sets that were made with another key have other hashes: of these nothing can be known, and is said so.
"""

import json
from collections.abc import Iterable, Set
from dataclasses import asdict, dataclass
from typing import Any

from models.package import PATIENTS_FILE, IntendedUse, ModelPackage, PackageBroken

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Lesson:
    """One training on a data set."""

    model: str
    """Name and version of what it made: a package, or one that it descends from."""
    key: str
    """Fingerprint of the key that named the patients."""
    training: tuple[str, ...]
    """Patients whose images made the weights."""
    validation: tuple[str, ...]
    """Patients by whom epoch and thresholds were chosen."""


@dataclass(frozen=True, slots=True)
class Learned:
    """All that the weights of a package have seen, its ancestors' lessons among it."""

    lessons: tuple[Lesson, ...]
    untold: tuple[str, ...] = ()
    """Name and version of those, the package or its ancestors, that do not say whom they learned from."""

    def then(self, lesson: Lesson) -> "Learned":
        """With one lesson more."""
        return Learned((*self.lessons, lesson), self.untold)


@dataclass(frozen=True, slots=True)
class Overlap:
    """How many of some patients a package has met."""

    patients: int
    training: int
    validation: int
    """Those met in validation alone."""
    unknown: tuple[str, ...]
    """Name and version of those whose patients cannot be compared: not told, or named with another key."""

    def warnings(self) -> tuple[str, ...]:
        """Sentences for a person; none where no patient was met."""
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


def overlap_of(learned: Learned, key: str, patients: Set[str]) -> Overlap:
    """Compare patients, whom a key of this fingerprint named, with those that a package learned from."""
    training = {patient for lesson in learned.lessons for patient in lesson.training}
    validation = {patient for lesson in learned.lessons for patient in lesson.validation} - training
    unlike = [lesson.model for lesson in learned.lessons if lesson.key != key]
    return Overlap(
        patients=len(patients),
        training=len(patients & training),
        validation=len(patients & validation),
        unknown=tuple(dict.fromkeys((*learned.untold, *unlike))),
    )


def learned_text(learned: Learned, weights_sha256: str) -> str:
    """The content of `patients.json`, for these weights."""
    return json.dumps({"format": FORMAT, "weights_sha256": weights_sha256, **asdict(learned)}, indent=1) + "\n"


def learned_from(package: ModelPackage) -> Learned:
    """What the package's `patients.json` says; packages for demonstration learned from synthetic heads, of nobody.

    Raises PackageBroken where the file is damaged.
    """
    path = package.folder / PATIENTS_FILE
    untold = Learned((), () if package.intended_use is IntendedUse.DEMONSTRATION else (called(package),))
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        told = _learned(document)
    except FileNotFoundError:
        return untold
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise PackageBroken(f"{path} is damaged, or of a newer glionode; install the package again.") from exc
    # A file that was left over from other weights tells nothing of these.
    return told if document["weights_sha256"] == package.weights_sha256 else untold


def called(package: ModelPackage) -> str:
    """Name and version."""
    return f"{package.name} {package.version}"


def _learned(document: Any) -> Learned:
    if document["format"] != FORMAT:
        raise ValueError("another format")
    return Learned(
        lessons=tuple(
            Lesson(
                model=str(each["model"]),
                key=str(each["key"]),
                training=_texts(each["training"]),
                validation=_texts(each["validation"]),
            )
            for each in document["lessons"]
        ),
        untold=_texts(document["untold"]),
    )


def _texts(values: Iterable[object]) -> tuple[str, ...]:
    return tuple(map(str, values))
