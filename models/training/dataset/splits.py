"""Split patients into training, validation and test. All studies of a patient are in the same split."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
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
    patients: Iterable[str],
    shares: Shares,
    seed: int,
    known: Mapping[str, Split] | None = None,
    same: Sequence[tuple[str, str]] = (),
) -> dict[str, Split]:
    """Return the split of every patient. Those in `known` keep theirs; the others are drawn at random from the seed.

    `same` are pairs of names for one patient, who gets one split; if both are known, each keeps its own. If there are
    three patients or more, a share above 0 gets at least one.
    """
    known = known or {}
    everyone = set(patients)
    person = _persons(everyone, same)
    known_persons: dict[str, Split] = {}
    for each in sorted(person.keys() & known.keys()):
        known_persons.setdefault(person[each], known[each])
    drawn = _split({person[each] for each in everyone}, shares, seed, known_persons)
    return {each: known.get(each, drawn[person[each]]) for each in everyone}


def _persons(patients: set[str], same: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Map every patient, and every name in `same`, to one name of the person."""
    person = {each: each for each in (*patients, *(name for pair in same for name in pair))}
    for one, other in same:
        merged = {person[one], person[other]}
        first = min(merged & patients or merged)
        person |= {each: first for each, theirs in person.items() if theirs in merged}
    return person


def _split(everyone: set[str], shares: Shares, seed: int, known: Mapping[str, Split]) -> dict[str, Split]:
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
