"""The meaning of the numbers in a label map of gliomas, and the regions that they make up.

A number alone means nothing: 4 is enhancing tumour in BraTS until 2021 and a resection cavity since 2024, 3 is
non-enhancing tumour until 2016 and enhancing tumour since 2023.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class TumourPart(StrEnum):
    """What a number in a label map stands for; parts do not overlap."""

    NCR = "NCR"
    """Necrosis and non-enhancing tumour core (NCR/NET, NETC)."""
    ED = "ED"
    """Oedema, or the surrounding FLAIR hyperintensity without a core (SNFH)."""
    ET = "ET"
    """Enhancing tumour."""
    RC = "RC"
    """Resection cavity, which is no tumour."""


REGIONS: Mapping[str, frozenset[TumourPart]] = MappingProxyType(
    {
        "tumour_core": frozenset({TumourPart.NCR, TumourPart.ET}),
        "whole_tumour": frozenset({TumourPart.NCR, TumourPart.ED, TumourPart.ET}),
        "enhancing_tumour": frozenset({TumourPart.ET}),
        "necrotic_core": frozenset({TumourPart.NCR}),
        "resection_cavity": frozenset({TumourPart.RC}),
    }
)
"""The parts of each region, by the name of the label (`models.labels`). No number of BraTS means an ADC abnormality or
a FLAIR hyperintensity, so that cases of BraTS lack these labels."""
FORMER_NAMES: Mapping[str, str] = MappingProxyType(
    {"TC": "tumour_core", "WT": "whole_tumour", "ET": "enhancing_tumour", "RC": "resection_cavity"}
)
"""The label of each region by its name in data sets of before format 3."""
_SHORT: Mapping[str, str] = MappingProxyType({**FORMER_NAMES, "NCR": "necrotic_core"})
EXAMPLE = "1=NCR,2=ED,3=ET,4=RC"
_ALSO_CALLED = {"NET": TumourPart.NCR, "NETC": TumourPart.NCR, "SNFH": TumourPart.ED}
_PAIR = re.compile(r"\s*([1-9]\d*)\s*=\s*([A-Za-z]+)\s*", re.ASCII)


@dataclass(frozen=True, slots=True)
class LabelNumbers:
    """The numbers of a label map with the part that each stands for; 0 is none of them."""

    parts: tuple[tuple[int, TumourPart], ...]
    """Sorted by number."""

    @property
    def regions(self) -> Mapping[str, tuple[int, ...]]:
        """Return the numbers of each region whose parts all have a number."""
        named = {part for _, part in self.parts}
        return {
            region: tuple(number for number, part in self.parts if part in parts)
            for region, parts in REGIONS.items()
            if parts <= named
        }

    @property
    def known(self) -> frozenset[int]:
        """Return all numbers that may occur in a label map."""
        return frozenset({0, *(number for number, _ in self.parts)})

    def contradiction(self, other: "LabelNumbers") -> tuple[int, TumourPart, TumourPart] | None:
        """Return the first number that means another part in `other`, with its two parts; None if there is none."""
        theirs = dict(other.parts)
        differing = ((number, part, theirs.get(number, part)) for number, part in self.parts)
        return next((found for found in differing if found[1] is not found[2]), None)

    def joined(self, other: "LabelNumbers") -> "LabelNumbers":
        """Return the numbers of both, which do not contradict each other."""
        return LabelNumbers(tuple(sorted({*self.parts, *other.parts})))

    def __str__(self) -> str:
        """Write the numbers as `parse_numbers` reads them."""
        return ",".join(f"{number}={part}" for number, part in self.parts)


UNTIL_2021 = LabelNumbers(((1, TumourPart.NCR), (2, TumourPart.ED), (4, TumourPart.ET)))
IN_2023 = LabelNumbers(((1, TumourPart.NCR), (2, TumourPart.ED), (3, TumourPart.ET)))
SINCE_2024 = LabelNumbers((*IN_2023.parts, (4, TumourPart.RC)))


def label_of_region(name: str) -> str:
    """Return the label that BraTS calls TC, WT, ET, NCR or RC; any other name as it is."""
    return _SHORT.get(name, name)


def parse_numbers(text: str) -> LabelNumbers:
    """Read numbers as a person writes them, such as "1=NCR,2=ED,3=ET,4=RC". Raises ValueError with a clause."""
    parts: dict[int, TumourPart] = {}
    for pair in text.split(","):
        match = _PAIR.fullmatch(pair)
        if match is None:
            raise ValueError(f"label numbers are given as in {EXAMPLE}, and not as {pair.strip()!r}")
        number, name = int(match[1]), match[2].upper()
        if number in parts:
            raise ValueError(f"the label number {number} is given twice; give its meaning once, as in {EXAMPLE}")
        if name not in _ALSO_CALLED and name not in TumourPart.__members__:
            raise ValueError(f"a label number cannot mean {name}; it means NCR, ED, ET or RC, as in {EXAMPLE}")
        parts[number] = _ALSO_CALLED.get(name) or TumourPart(name)
    return LabelNumbers(tuple(sorted(parts.items())))
