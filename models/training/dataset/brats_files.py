"""Which files of a folder are BraTS cases, by the names that each year's challenge gave them. Reads no images.

    year        files                                                          label numbers
    2017-2019   Brats18_2013_2_1_{flair,t1,t1ce,t2,seg}.nii.gz                 1 NCR/NET, 2 ED, 4 ET
    2020, 2021  BraTS20_Training_001_{...}.nii, BraTS2021_00000_{...}.nii.gz   1 NCR, 2 ED, 4 ET
    2023        BraTS-GLI-00000-000-{t1n,t1c,t2w,t2f,seg}.nii.gz               1 NCR, 2 SNFH, 3 ET
    2024        as 2023, after treatment: time points from 100, as in ...-100  1 NETC, 2 SNFH, 3 ET, 4 RC

The 4 of the underscored names is enhancing tumour, that of the hyphened names is the cavity of a resection. Time
points are as public lists of 2024's cases have them (BraTS-GLI-02143-102, BraTS-GLI-02405-100).
"""

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from models.labels import Role

_CHANNEL = re.compile(r"(?P<case>.+?)[_-](?P<what>flair|t1ce|t1gd|t1c|t1n|t1|t2f|t2w|t2|segm?)\.nii(\.gz)?", re.I)
_STRAY_SEGMENTATION = re.compile(r".*[_-]segm?\.nii(\.gz)?", re.I)
_ROLES = {
    "t1": Role.T1,
    "t1n": Role.T1,
    "t1ce": Role.T1CE,
    "t1gd": Role.T1CE,
    "t1c": Role.T1CE,
    "t2": Role.T2,
    "t2w": Role.T2,
    "flair": Role.FLAIR,
    "t2f": Role.FLAIR,
}
_OF_2017_TO_2019 = re.compile(r"brats1[789]_(?P<patient>.+)_\d+", re.I)
_OF_2023 = re.compile(r"brats-(?P<task>[a-z]+)-(?P<patient>\d+)-(?P<time>\d+)", re.I)
_OF_2021 = re.compile(r"brats2021_(?P<patient>\d+)", re.I)
_FIRST_TIME_AFTER_TREATMENT = 100
_GLIOMA_TASKS = ("gli", "ssa")
"""Adult gliomas, and those of Sub-Saharan Africa; the others are metastases, meningiomas, children's tumours, mixtures
(and children's have other numbers)."""


class Numbers(Enum):
    """What the numbers of a label map mean, as the sets of numbers that make up each region."""

    UNTIL_2021 = (("TC", (1, 4)), ("WT", (1, 2, 4)), ("ET", (4,)))
    OF_2023 = (("TC", (1, 3)), ("WT", (1, 2, 3)), ("ET", (3,)))
    SINCE_2024 = (("TC", (1, 3)), ("WT", (1, 2, 3)), ("ET", (3,)), ("RC", (4,)))

    @property
    def regions(self) -> Mapping[str, tuple[int, ...]]:
        """Numbers by region: tumour core, whole tumour, enhancing tumour; resection cavity since 2024."""
        return dict(self.value)

    @property
    def known(self) -> frozenset[int]:
        """All numbers that may stand in a label map."""
        return frozenset({0}.union(*(numbers for _, numbers in self.value)))


@dataclass(frozen=True, slots=True)
class BratsFiles:
    """The files of one case."""

    name: str
    """As the challenge gave it, e.g. BraTS-GLI-00005-100."""
    patient: str
    """What the name says of the patient: two studies of one patient share it, also across 2017 to 2019, and where 2021
    and 2023 count alike."""
    numbers: Numbers
    year_told: bool
    """Whether the name tells the year; where it does not, `numbers` are the latest."""
    channels: Mapping[Role, Path]
    segmentation: Path | None
    not_glioma: bool
    """Whether the name is that of another task of the challenge."""


def find_brats(folder: Path) -> tuple[BratsFiles, ...]:
    """The cases under a folder, any layout, in the order of their names and places."""
    found: dict[tuple[Path, str], dict[str, Path]] = {}
    strays: dict[Path, list[Path]] = {}
    for path in sorted(each for each in folder.rglob("*.nii*") if each.is_file()):
        match = _CHANNEL.fullmatch(path.name)
        if match:
            found.setdefault((path.parent, match["case"]), {})[match["what"].lower()] = path
        if _STRAY_SEGMENTATION.fullmatch(path.name):
            strays.setdefault(path.parent, []).append(path)
    earlier = _earlier_names(folder.rglob("name_mapping*.csv"))
    cases = []
    for (place, name), files in found.items():
        channels = {_ROLES[what]: path for what, path in files.items() if what in _ROLES}
        if not channels and any(other == place and name != another for other, another in found):
            continue  # the segmentation of its neighbour under another name, as that of BraTS20_Training_355
        segmentation = files.get("seg") or files.get("segm")
        if segmentation is None and len(strays.get(place, ())) == 1:
            segmentation = strays[place][0]
        cases.append(_case(name, channels, segmentation, earlier))
    return tuple(sorted(cases, key=lambda case: (case.name, sorted(case.channels.values()))))


def _case(
    name: str, channels: Mapping[Role, Path], segmentation: Path | None, earlier: Mapping[str, str]
) -> BratsFiles:
    of_2023 = _OF_2023.fullmatch(name)
    if of_2023 is not None:
        numbers = Numbers.SINCE_2024 if int(of_2023["time"]) >= _FIRST_TIME_AFTER_TREATMENT else Numbers.OF_2023
    else:
        numbers = Numbers.SINCE_2024 if name.lower().startswith("brats-") else Numbers.UNTIL_2021
    return BratsFiles(
        name=name,
        patient=f"{of_2023['task'].upper()}-{of_2023['patient']}" if of_2023 else _patient(earlier.get(name, name)),
        numbers=numbers,
        year_told=of_2023 is not None or numbers is Numbers.UNTIL_2021,
        channels=channels,
        segmentation=segmentation,
        not_glioma=of_2023 is not None and of_2023["task"].lower() not in _GLIOMA_TASKS,
    )


def _patient(name: str) -> str:
    match = _OF_2017_TO_2019.fullmatch(name)
    if match:
        # The same patient is TCIA_105 in 2017 and TCIA08_105 since.
        return re.sub(r"^TCIA\d*_", "TCIA_", match["patient"], flags=re.I)
    # 2023 took over the cases of 2021 and, as far as is known, their numbers: one patient rather than two.
    of_2021 = _OF_2021.fullmatch(name)
    return f"GLI-{of_2021['patient']}" if of_2021 else name


def _earlier_names(tables: Iterable[Path]) -> dict[str, str]:
    """The name of each case of 2020 in an earlier year, from the tables that come with the challenge's data."""
    earlier: dict[str, str] = {}
    for table in sorted(tables):
        with table.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
            for row in csv.DictReader(stream):
                names = [row.get(f"BraTS_{year}_subject_ID") or "" for year in (2017, 2018, 2019)]
                known = [name for name in names if _OF_2017_TO_2019.fullmatch(name)]
                if known and row.get("BraTS_2020_subject_ID"):
                    earlier[row["BraTS_2020_subject_ID"]] = known[0]
    return earlier
