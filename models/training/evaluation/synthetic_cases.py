"""Which cases an evaluation measures, decided before anything is made: synthetic heads by seed, studies by folder."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from models.training.synthetic.families import Family, group_of
from models.training.synthetic.samples import FIRST_HELD_OUT_SEED
from models.training.synthetic.tumour import Variant

LESION_FREE_OFFSET = 500_000
"""Seeds of heads without a lesion come so far after those of heads with one."""
REAL = "real"
"""The group of studies that show a real head."""
_WITH_LESION = tuple(variant for variant in Variant if variant is not Variant.LESION_FREE)


@dataclass(frozen=True, slots=True)
class Head:
    """A synthetic head."""

    family: Family
    seed: int
    variant: Variant

    @property
    def case_id(self) -> str:
        """Its name in results and of its picture."""
        return f"{self.family.value}-{self.seed}-{self.variant.value}"

    @property
    def group(self) -> str:
        """What it is summed up with."""
        return group_of(self.family)


@dataclass(frozen=True, slots=True)
class Study:
    """A folder with `dicom/` and, beside it, the truth as `glionode phantom` writes it; see `real_head`."""

    folder: Path

    @property
    def case_id(self) -> str:
        """The folder's name, with a digest of the truth and of which files there are: another truth, another case."""
        digest = hashlib.sha256()
        for path in sorted(self.folder.glob("truth_*")):
            digest.update(path.name.encode() + path.read_bytes())
        for path in sorted(path for path in (self.folder / "dicom").rglob("*") if path.is_file()):
            digest.update(f"{path.relative_to(self.folder)} {path.stat().st_size}".encode())
        return f"{REAL}-{self.name}-{digest.hexdigest()[:8]}"

    @property
    def group(self) -> str:
        """What it is summed up with."""
        return REAL

    @property
    def name(self) -> str:
        """What a person calls it."""
        return self.folder.resolve().name


Case = Head | Study


@dataclass(frozen=True, slots=True)
class Wanted:
    """How many heads of what, and which studies."""

    families: tuple[Family, ...] = tuple(Family)
    heads: int = 20
    """Of each group of families, with a lesion; its families and the variants take turns."""
    lesion_free: int = 8
    """Of all families together, which take turns."""
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
        if twice := _named_twice([Study(folder).name for folder in self.studies]):
            raise ValueError(f"two studies are called {twice}; rename the folder of one")

    @property
    def cases(self) -> tuple[Case, ...]:
        """All of them: families first, then heads without a lesion, then studies."""
        groups: dict[str, list[Family]] = {}
        for family in self.families:
            groups.setdefault(group_of(family), []).append(family)
        # 2 families and 5 variants have no divisor in common: every family gets every variant.
        with_lesion = (
            Head(group[number % len(group)], self.first_seed + number, _WITH_LESION[number % len(_WITH_LESION)])
            for group in groups.values()
            for number in range(self.heads)
        )
        return (*with_lesion, *self._lesion_free(), *(Study(folder) for folder in self.studies))

    def _lesion_free(self) -> tuple[Head, ...]:
        first, count = self.first_seed + LESION_FREE_OFFSET, len(self.families)
        return tuple(
            Head(self.families[number % count], first + number // count, Variant.LESION_FREE)
            for number in range(self.lesion_free)
        )


def _named_twice(names: Sequence[str]) -> str | None:
    return next((name for place, name in enumerate(names) if name in names[:place]), None)
