"""The cases that an evaluation measures: synthetic heads by seed, phantom studies by folder, cases of a data set.

They are selected here, before anything is made or read. Every case is picklable.
"""

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from models.labels import Role
from models.package import ModelPackage
from models.training.dataset.dataset import Case as StoredCase
from models.training.dataset.dataset import Dataset
from models.training.dataset.manifest import Annotator, DatasetBroken, Split
from models.training.evaluation.predict import is_on_node_grid
from models.training.synthetic.families import Family, group_of
from models.training.synthetic.samples import FIRST_HELD_OUT_SEED
from models.training.synthetic.tumour import Variant

LESION_FREE_OFFSET = 500_000
"""Seeds of heads without a lesion start this far above those of heads with one."""
REAL = "real"
"""The group of phantom studies, which show a real head with a simulated tumour."""
_WITH_LESION = tuple(variant for variant in Variant if variant is not Variant.LESION_FREE)


class EvaluationCase(ABC):
    """What can be measured and compared with its truth."""

    __slots__ = ()

    without: tuple[Role, ...]
    """Channels that the network is not given, though the case has them: it is measured once more without these."""

    @property
    @abstractmethod
    def case_id(self) -> str:
        """Its id in tables, unique within an evaluation."""

    @property
    def group(self) -> str:
        """The group that a model card summarises it with; empty for a case of a data set, whose subgroups are given."""
        return ""

    @property
    def name(self) -> str:
        """What a person calls it within its group."""
        return self.case_id

    @property
    def title(self) -> str:
        """What a person calls it, with its group and what is left out of it."""
        title = f"{self.group}, {self.name}" if self.group else self.name
        return f"{title}, without {' and '.join(self.without)}" if self.without else title

    @property
    def journal_key(self) -> str:
        """Its id in the journal, which changes with what is measured. Raises OSError."""
        return f"{self._content_key}-without-{'-'.join(self.without)}" if self.without else self._content_key

    @property
    def _content_key(self) -> str:
        """Its id, which changes with the content of its files. Raises OSError."""
        return self.case_id

    @property
    def patient(self) -> str | None:
        """Keyed hash of the patient; None where there is none."""
        return None

    @property
    def is_lesion_free(self) -> bool:
        """Whether it was made without a lesion, so that all that is found in it is false."""
        return False


@dataclass(frozen=True, slots=True)
class HeadCase(EvaluationCase):
    """A synthetic head, made from its seed."""

    family: Family
    seed: int
    variant: Variant
    without: tuple[Role, ...] = ()

    @property
    def case_id(self) -> str:
        """Family, seed and variant, such as "painted-1000000-unifocal"."""
        return f"{self.family.value}-{self.seed}-{self.variant.value}"

    @property
    def group(self) -> str:
        """The families that training learns from are one group, each other family is its own."""
        return group_of(self.family)

    @property
    def name(self) -> str:
        """Seed and variant, such as "seed 1000000, unifocal"."""
        return f"seed {self.seed}, {self.variant.value}"

    @property
    def is_lesion_free(self) -> bool:
        """Whether its variant is the one without a lesion."""
        return self.variant is Variant.LESION_FREE


@dataclass(frozen=True, slots=True)
class StudyCase(EvaluationCase):
    """A folder with `dicom/` and the truth beside it, as `glionode phantom` writes it; see `phantom_study`."""

    folder: Path
    without: tuple[Role, ...] = ()

    @property
    def case_id(self) -> str:
        """The name of the folder."""
        return self.folder.resolve().name

    @property
    def group(self) -> str:
        """REAL, the same for all studies."""
        return REAL

    @property
    def _content_key(self) -> str:
        """The folder's name with a digest of the truth and of the images' names and sizes. Raises OSError."""
        digest = hashlib.sha256()
        for path in sorted(self.folder.glob("truth_*")):
            digest.update(path.name.encode() + path.read_bytes())
        for path in sorted(path for path in (self.folder / "dicom").rglob("*") if path.is_file()):
            digest.update(f"{path.relative_to(self.folder)} {path.stat().st_size}".encode())
        return f"{REAL}-{self.case_id}-{digest.hexdigest()[:8]}"


@dataclass(frozen=True, slots=True)
class DatasetCase(EvaluationCase):
    """A case of a data set with the labels that somebody drew in it."""

    stored: StoredCase
    labels: tuple[str, ...]
    """Labels of the package that are compared, in the package's order: a label that the case lacks is not."""
    on_node_grid: bool
    """Whether the voxels need no further sampling, see `predict.is_on_node_grid`."""
    without: tuple[Role, ...] = ()

    @property
    def case_id(self) -> str:
        """Keyed hash of the study, which names the folder of the case."""
        return self.stored.case_id

    @property
    def patient(self) -> str:
        """Keyed hash of the patient."""
        return self.stored.patient

    @property
    def _content_key(self) -> str:
        """The id with a digest of the voxels, as the manifest states it, and of what is compared."""
        content = (self.stored.entry.fingerprint, self.labels, self.on_node_grid)
        return f"{self.case_id}-{hashlib.sha256(repr(content).encode()).hexdigest()[:8]}"


@dataclass(frozen=True, slots=True)
class Unmeasured:
    """A case, or some labels of it, that could not be measured."""

    case: EvaluationCase
    reason: str
    """The reason, in one sentence."""


@dataclass(frozen=True, slots=True)
class SyntheticSelection:
    """How many heads of which families, and which phantom studies."""

    families: tuple[Family, ...] = tuple(Family)
    heads: int = 20
    """Heads with a lesion in each group of families; its families and the variants take turns."""
    lesion_free: int = 8
    """Heads without a lesion in all families together, which take turns."""
    studies: tuple[Path, ...] = ()
    first_seed: int = FIRST_HELD_OUT_SEED

    def __post_init__(self) -> None:
        if self.first_seed < FIRST_HELD_OUT_SEED:
            raise ValueError(f"seeds below {FIRST_HELD_OUT_SEED} are for training; evaluate on seeds from there on")
        if max(self.heads, self.lesion_free) > LESION_FREE_OFFSET:
            raise ValueError(f"there are seeds for {LESION_FREE_OFFSET} heads of a kind")
        if not self.families or len(set(self.families)) != len(self.families):
            raise ValueError("name each family of heads once")
        if self.heads + self.lesion_free + len(self.studies) == 0:
            raise ValueError("no heads and no studies are asked for: there is nothing to measure")
        names = [StudyCase(folder).case_id for folder in self.studies]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two studies are called {min(repeated)}; rename the folder of one")

    @property
    def cases(self) -> tuple[EvaluationCase, ...]:
        """All cases: heads with a lesion group by group, then heads without one, then studies."""
        groups: dict[str, list[Family]] = {}
        for family in self.families:
            groups.setdefault(group_of(family), []).append(family)
        # 2 families and 5 variants have no divisor in common: every family gets every variant.
        with_lesion = (
            HeadCase(group[number % len(group)], self.first_seed + number, _WITH_LESION[number % len(_WITH_LESION)])
            for group in groups.values()
            for number in range(self.heads)
        )
        first, count = self.first_seed + LESION_FREE_OFFSET, len(self.families)
        lesion_free = (
            HeadCase(self.families[number % count], first + number // count, Variant.LESION_FREE)
            for number in range(self.lesion_free)
        )
        return (*with_lesion, *lesion_free, *(StudyCase(folder) for folder in self.studies))


def select_dataset_cases(
    dataset: Dataset, split: Split | None, package: ModelPackage
) -> tuple[tuple[DatasetCase, ...], tuple[Unmeasured, ...]]:
    """Return the cases of a split (None: of all) in the order of their ids, and what of them cannot be measured.

    A label that the node drew itself and nobody corrected is left out: a model agrees with its own work. So is a case
    that lacks a channel that the package requires. Raises DatasetBroken where the data set lacks what the package
    needs, or has no case in the split.
    """
    stored = dataset.cases if split is None else dataset.of(split)
    refuse_mismatch(package, dataset)
    if not stored:
        raise DatasetBroken(f"{dataset.folder} has no case for {split}; `--split all` takes every one.")
    on_node_grid = is_on_node_grid(dataset, package)
    cases, left_out = [], []
    for each in stored:
        case = DatasetCase(each, comparable_labels(each, package), on_node_grid)
        by_node = [label.name for label in package.labels if each.annotators.get(label.name) is Annotator.NODE]
        if lacking := [role for role in package.required if role not in each.channels]:
            left_out.append(Unmeasured(case, f"it has no {' and no '.join(lacking)}, which the model needs"))
            continue
        if by_node:
            left_out.append(Unmeasured(case, f"the node drew {', '.join(by_node)} itself; nobody corrected it"))
        elif not case.labels:
            left_out.append(Unmeasured(case, "it has none of the labels of the model"))
        if case.labels:
            cases.append(case)
    return tuple(cases), tuple(left_out)


def comparable_labels(case: StoredCase, package: ModelPackage) -> tuple[str, ...]:
    """Return the labels of the package that a case has and the node did not draw itself, in the package's order."""
    return tuple(
        label.name for label in package.labels if case.annotators.get(label.name, Annotator.NODE) is not Annotator.NODE
    )


def refuse_mismatch(package: ModelPackage, dataset: Dataset) -> None:
    """Raise DatasetBroken where no case has a channel that the package requires, or any of its labels."""
    channels = [role for role in package.required if role not in dataset.channels]
    labels = [label.name for label in package.labels if label.name not in dataset.labels]
    if channels or len(labels) == len(package.labels):
        raise DatasetBroken(
            f"Model {package.name} needs {', '.join((*channels, *labels))}, which {dataset.folder} does not have: its "
            f"channels are {', '.join(dataset.channels)}, its labels {', '.join(dataset.labels)}. "
            "Make the data set with these channels and labels, or take a model that was made for it."
        )
