"""Split patients into training, validation and test. All studies of a patient are in the same split."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from models.training.dataset.manifest import Split


@dataclass(frozen=True, slots=True)
class Shares:
    """Shares of the patients that are not used for training."""

    validation: float = 0.2
    """Share that selects the best epoch (Wan et al. 2024: 115 of 579 for pretraining, 10 of 100 for fine-tuning)."""
    test: float = 0.0
    """Share held out for the final test."""

    def __post_init__(self) -> None:
        if self.validation < 0 or self.test < 0 or self.validation + self.test >= 1:
            raise ValueError("the shares of validation and test must not be negative, and their sum must be below 1")


def split_patients(
    patients: Iterable[str], shares: Shares, seed: int, known: Mapping[str, Split] | None = None
) -> dict[str, Split]:
    """Return the split of every patient. Those in `known` keep theirs; the others are drawn at random from the seed.

    If there are three patients or more, a share above 0 gets at least one.
    """
    known = known or {}
    everyone = set(patients)
    assigned = {patient: known[patient] for patient in everyone if patient in known}
    others = sorted(everyone - set(assigned), key=lambda patient: hashlib.sha256(f"{seed} {patient}".encode()).digest())
    for split, share in ((Split.TEST, shares.test), (Split.VALIDATION, shares.validation)):
        wanted = round(share * len(everyone))
        if share > 0 and len(everyone) >= 3:
            wanted = max(1, wanted)
        lacking = max(0, wanted - sum(each is split for each in assigned.values()))
        assigned |= dict.fromkeys(others[:lacking], split)
        others = others[lacking:]
    return assigned | dict.fromkeys(others, Split.TRAIN)
