"""Join several data sets into one training: patients and cases that are in more than one are found and kept apart."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from models.labels import LABELS, Role
from models.training.dataset.dataset import Case, Dataset
from models.training.dataset.manifest import CASES_FOLDER, Split
from models.training.train.settings import SettingsContradict

_STRONGEST_FIRST = (Split.TEST, Split.VALIDATION, Split.TRAIN)
"""The split of a patient that two sets put in two: what was held out anywhere is held out everywhere."""
_NUMBERS = {label.name: label.number for label in LABELS}


@dataclass(frozen=True, slots=True)
class JoinedSet:
    """What one of the data sets contributes."""

    name: str
    """Name of its folder."""
    dataset: Dataset
    weight: float
    """How often each of its training cases is seen in an epoch."""
    cases: tuple[Case, ...]
    """The cases that are used, sorted by case ID, in the split that they have in the joined training."""
    duplicates: int
    """Cases whose images are in another case, which is used instead."""
    moved: tuple[tuple[Split, Split, int], ...]
    """Number of cases that another set or another of the patient's names moved from one split to another."""


@dataclass(frozen=True, slots=True)
class JoinedSets:
    """Several data sets as one; see `Dataset` for the attributes that both have. The order of the sets is no matter."""

    sets: tuple[JoinedSet, ...]
    """Sorted by name."""
    persons: Mapping[Path, str]
    """A pseudonym of the person of each case, by the case's folder."""

    @property
    def cases(self) -> tuple[Case, ...]:
        """Return the cases of all sets."""
        return tuple(case for each in self.sets for case in each.cases)

    @property
    def channels(self) -> tuple[Role, ...]:
        """Return the channels that at least one set has, sorted."""
        return tuple(sorted({role for each in self.sets for role in each.dataset.channels}))

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the labels that at least one set has, in the order of their numbers, then others by name."""
        return in_registry_order(sorted({label for each in self.sets for label in each.dataset.labels}))

    @property
    def spacing_mm(self) -> float:
        """Return the edge of the voxels of every set. Raises SettingsContradict if they differ."""
        edges = sorted({each.dataset.spacing_mm for each in self.sets})
        if len(edges) > 1:
            words = " and ".join(map(str, edges))
            raise SettingsContradict(f"the data sets have voxels of {words} mm: name spacing_mm in a file of --config")
        return edges[0]

    @property
    def fingerprint(self) -> str:
        """Return a SHA-256 of the content of the sets, their names and their weights."""
        parts = [(each.name, each.weight, each.dataset.fingerprint) for each in self.sets]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def of(self, split: Split) -> tuple[Case, ...]:
        """Return the cases of one split."""
        return tuple(case for case in self.cases if case.split is split)

    def weight(self, case: Case) -> float:
        """Return how often a case is seen in an epoch."""
        return next(each.weight for each in self.sets if case.folder.parent == each.dataset.folder / CASES_FOLDER)

    def person(self, case: Case) -> str:
        """Return the same pseudonym for all cases of a person, whatever the keys of the sets."""
        return self.persons[case.folder]


def in_registry_order(labels: Iterable[str]) -> tuple[str, ...]:
    """Return each label once: those that the node knows by number, then the others in the order given."""
    return tuple(sorted(dict.fromkeys(labels), key=lambda label: _NUMBERS.get(label, len(_NUMBERS) + 1)))


def join_sets(datasets: Sequence[Dataset], weights: Mapping[str, float]) -> JoinedSets:
    """Join data sets, each under the name of its folder; `weights` by that name, 1 for those it does not name.

    A person is one patient, by pseudonym where sets share a key, and by the images that any of their cases share. All
    their cases are in one split: test if a set says so, else validation if a set says so. Of cases with the same images
    the one with most labels is used, then the one with most channels. Raises SettingsContradict for sets of one name
    and for weights of sets that are not there; DatasetBroken.
    """
    named = {_name(dataset): dataset for dataset in sorted(datasets, key=_name)}
    if len(named) < len(datasets):
        raise SettingsContradict("two of the data sets have folders of the same name: rename one of them")
    for name, weight in weights.items():
        if name not in named or not 0 < weight <= 1000:
            raise SettingsContradict(
                f"--weight {name}={weight:g}: the sets are {', '.join(named)}, and a weight is above 0"
            )
    everything = [(dataset, case) for dataset in named.values() for case in dataset.cases]
    person, images = _first_case_of_person_and_images(everything)
    splits: dict[int, Split] = {}
    used: dict[int, Case] = {}
    for (_, case), of_person, of_images in zip(everything, person, images, strict=True):
        splits[of_person] = min(splits.get(of_person, case.split), case.split, key=_STRONGEST_FIRST.index)
        used[of_images] = min(used.get(of_images, case), case, key=_rank)
    joined, persons = [], {}
    for name, dataset in named.items():
        kept, moved, duplicates = [], Counter[tuple[Split, Split]](), 0
        for (of_set, case), of_person, of_images in zip(everything, person, images, strict=True):
            if of_set is not dataset:
                continue
            if used[of_images] is not case:
                duplicates += 1
                continue
            split = splits[of_person]
            moved[case.split, split] += case.split is not split
            kept.append(replace(case, entry=replace(case.entry, split=split)))
            persons[case.folder] = everything[of_person][1].patient
        changes = tuple((*change, count) for change, count in sorted(moved.items()) if count)
        joined.append(JoinedSet(name, dataset, weights.get(name, 1.0), tuple(kept), duplicates, changes))
    return JoinedSets(tuple(joined), persons)


def _name(dataset: Dataset) -> str:
    return dataset.folder.resolve().name


def _rank(case: Case) -> tuple[int, int, str]:
    """Return a key that is smallest for the case that says most."""
    return -len(case.labels), -len(case.channels), case.entry.fingerprint


def _first_case_of_person_and_images(cases: Sequence[tuple[Dataset, Case]]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return, for each case, the number of the first case of the same person, and of the first with the same images."""
    by_person, by_images = _Groups(len(cases)), _Groups(len(cases))
    seen: dict[object, int] = {}
    for number, (dataset, case) in enumerate(cases):
        for image in sorted(case.image_fingerprints):
            first = seen.setdefault(image, number)
            by_images.join(first, number)
            by_person.join(first, number)
        by_person.join(seen.setdefault((dataset.manifest.key, case.patient), number), number)
    return by_person.firsts(), by_images.firsts()


class _Groups:
    """Groups of numbers that are joined in pairs, each called by its smallest number."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def join(self, one: int, other: int) -> None:
        """Make the groups of two numbers one."""
        low, high = sorted((self._first(one), self._first(other)))
        self._parent[high] = low

    def firsts(self) -> tuple[int, ...]:
        """Return the smallest number of the group of each."""
        return tuple(map(self._first, range(len(self._parent))))

    def _first(self, number: int) -> int:
        while self._parent[number] != number:
            self._parent[number] = self._parent[self._parent[number]]
            number = self._parent[number]
        return number


def sets_table(joined: JoinedSets) -> str:
    """Return a table in Markdown of what each set contributes, and sentences on what cannot be told."""
    rows = []
    for each in joined.sets:
        counts = Counter(case.split for case in each.cases)
        moved = ", ".join(f"{count} from {before} to {after}" for before, after, count in each.moved) or "none"
        splits = " | ".join(str(counts[split]) for split in (Split.TRAIN, Split.VALIDATION, Split.TEST))
        rows.append(f"| {each.name} | {each.weight:g} | {splits} | {each.duplicates} | {moved} |")
    table = "| set | weight | training | validation | test | left out: images in another case | moved |\n"
    table += "|---|---|---|---|---|---|---|\n" + "\n".join(rows)
    if len({each.dataset.manifest.key for each in joined.sets}) > 1:
        table += (
            "\n\nThe sets' pseudonyms were made with different keys, so that a patient who is in two of them is "
            "recognised by equal images only."
        )
    return table
