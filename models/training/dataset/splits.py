"""Who is trained on, who validates, who tests: whole patients, by a seed. Knows names of patients and nothing else."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from models.training.dataset.manifest import Split


@dataclass(frozen=True, slots=True)
class Shares:
    """How many of the patients are kept from training."""

    validation: float = 0.2
    """Share that picks the best epoch (Wan et al. 2024: 115 of 579 for pretraining, 10 of 100 for fine-tuning)."""
    test: float = 0.0
    """Share that nothing sees before the end."""

    def __post_init__(self) -> None:
        if self.validation < 0 or self.test < 0 or self.validation + self.test >= 1:
            raise ValueError("the shares of validation and test must not be negative, and leave something to train on")


def split_patients(
    patients: Iterable[str], shares: Shares, seed: int, known: Mapping[str, Split] | None = None
) -> dict[str, Split]:
    """A split for every patient. Those in `known` keep theirs; the others come by lot, the same for the same seed.

    A share above 0 gets at least one patient where there are three or more.
    """
    known = known or {}
    everybody = set(patients)
    given = {patient: known[patient] for patient in everybody if patient in known}
    others = sorted(everybody - set(given), key=lambda patient: hashlib.sha256(f"{seed} {patient}".encode()).digest())
    for split, share in ((Split.TEST, shares.test), (Split.VALIDATION, shares.validation)):
        wanted = round(share * len(everybody))
        if share > 0 and len(everybody) >= 3:
            wanted = max(1, wanted)
        lacking = max(0, wanted - sum(each is split for each in given.values()))
        given |= dict.fromkeys(others[:lacking], split)
        others = others[lacking:]
    return given | dict.fromkeys(others, Split.TRAIN)
