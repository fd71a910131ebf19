"""Find the BraTS cases in a folder by the file names that each year's challenge used. Reads no images.

    year        files                                                          label numbers
    2017-2019   Brats18_2013_2_1_{flair,t1,t1ce,t2,seg}.nii.gz                 1 NCR/NET, 2 ED, 4 ET
    2020, 2021  BraTS20_Training_001_{...}.nii, BraTS2021_00000_{...}.nii.gz   1 NCR, 2 ED, 4 ET
    2023        BraTS-GLI-00000-000-{t1n,t1c,t2w,t2f,seg}.nii.gz               1 NCR, 2 SNFH, 3 ET
    2024        as 2023, after treatment: time points from 100, as in ...-100  1 NETC, 2 SNFH, 3 ET, 4 RC

Label 4 is enhancing tumour in names with underscores and resection cavity in names with hyphens. The time points are
those in public lists of the cases of 2024 (BraTS-GLI-02143-102, BraTS-GLI-02405-100).
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
_NAME_2017_TO_2019 = re.compile(r"brats1[789]_(?P<patient>.+)_\d+", re.I)
_NAME_2023 = re.compile(r"brats-(?P<task>[a-z]+)-(?P<patient>\d+)-(?P<time>\d+)", re.I)
_NAME_2021 = re.compile(r"brats2021_(?P<patient>\d+)", re.I)
_FIRST_TIME_AFTER_TREATMENT = 100
_GLIOMA_TASKS = ("gli", "ssa")
"""Adult gliomas, and those of Sub-Saharan Africa. Other tasks are metastases, meningiomas, mixtures, and paediatric
tumours, which have other label numbers."""


class LabelNumbers(Enum):
    """The numbers in a label map that make up each region, by year of the challenge."""

    UNTIL_2021 = (("TC", (1, 4)), ("WT", (1, 2, 4)), ("ET", (4,)))
    IN_2023 = (("TC", (1, 3)), ("WT", (1, 2, 3)), ("ET", (3,)))
    SINCE_2024 = (("TC", (1, 3)), ("WT", (1, 2, 3)), ("ET", (3,)), ("RC", (4,)))

    @property
    def regions(self) -> Mapping[str, tuple[int, ...]]:
        """Return the numbers of tumour core, whole tumour, enhancing tumour and, since 2024, resection cavity."""
        return dict(self.value)

    @property
    def known(self) -> frozenset[int]:
        """Return all numbers that may occur in a label map."""
        return frozenset({0}.union(*(numbers for _, numbers in self.value)))


@dataclass(frozen=True, slots=True)
class BratsFiles:
    """Files of one BraTS case."""

    name: str
    """Name in the challenge, e.g. BraTS-GLI-00005-100."""
    patient: str
    """The patient's part of the name, equal for all studies of a patient from 2017 to 2019, and in 2021 and later."""
    numbers: LabelNumbers
    year_known: bool
    """Whether the name tells the year. If not, `numbers` are those since 2024."""
    channels: Mapping[Role, Path]
    segmentation: Path | None
    not_glioma: bool
    """Whether the name belongs to another task of the challenge."""


def find_brats(folder: Path) -> tuple[BratsFiles, ...]:
    """Return the cases under a folder of any layout, sorted by name and path."""
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
    for (parent, name), files in found.items():
        channels = {_ROLES[what]: path for what, path in files.items() if what in _ROLES}
        if not channels and any(other == parent and name != another for other, another in found):
            continue  # a segmentation under another name than its case, as that of BraTS20_Training_355
        segmentation = files.get("seg") or files.get("segm")
        if segmentation is None and len(strays.get(parent, ())) == 1:
            segmentation = strays[parent][0]
        cases.append(_case(name, channels, segmentation, earlier))
    return tuple(sorted(cases, key=lambda case: (case.name, sorted(case.channels.values()))))


def _case(
    name: str, channels: Mapping[Role, Path], segmentation: Path | None, earlier: Mapping[str, str]
) -> BratsFiles:
    of_2023 = _NAME_2023.fullmatch(name)
    if of_2023 is not None:
        numbers = (
            LabelNumbers.SINCE_2024 if int(of_2023["time"]) >= _FIRST_TIME_AFTER_TREATMENT else LabelNumbers.IN_2023
        )
    else:
        numbers = LabelNumbers.SINCE_2024 if name.lower().startswith("brats-") else LabelNumbers.UNTIL_2021
    return BratsFiles(
        name=name,
        patient=f"{of_2023['task'].upper()}-{of_2023['patient']}" if of_2023 else _patient(earlier.get(name, name)),
        numbers=numbers,
        year_known=of_2023 is not None or numbers is LabelNumbers.UNTIL_2021,
        channels=channels,
        segmentation=segmentation,
        not_glioma=of_2023 is not None and of_2023["task"].lower() not in _GLIOMA_TASKS,
    )


def _patient(name: str) -> str:
    match = _NAME_2017_TO_2019.fullmatch(name)
    if match:
        # A patient is TCIA_105 in 2017 and TCIA08_105 since 2018.
        return re.sub(r"^TCIA\d*_", "TCIA_", match["patient"], flags=re.I)
    # 2023 contains the cases of 2021, as far as known under the same numbers. Take equal numbers for one patient.
    of_2021 = _NAME_2021.fullmatch(name)
    return f"GLI-{of_2021['patient']}" if of_2021 else name


def _earlier_names(tables: Iterable[Path]) -> dict[str, str]:
    """Map cases of 2020 to their names in an earlier year, by the tables that come with the challenge's data."""
    earlier: dict[str, str] = {}
    for table in sorted(tables):
        with table.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
            for row in csv.DictReader(stream):
                names = [row.get(f"BraTS_{year}_subject_ID") or "" for year in (2017, 2018, 2019)]
                known = [name for name in names if _NAME_2017_TO_2019.fullmatch(name)]
                if known and row.get("BraTS_2020_subject_ID"):
                    earlier[row["BraTS_2020_subject_ID"]] = known[0]
    return earlier
