"""Find cases of BraTS, and of sets whose files are named as there, in a folder. Reads no images.

A case is NAME_{flair,t1,t1ce,t2,seg}.nii.gz, or NAME-{t2f,t1n,t1c,t2w,seg}.nii.gz; `case_names` reads NAME.
"""

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from models.labels import Role
from models.training.dataset.case_names import CaseName, is_of_2017_to_2019, read_case_name

_CHANNEL = re.compile(r"(?P<case>.+?)[_-](?P<what>flair|t1ce|t1gd|t1c|t1n|t1|t2f|t2w|t2|segm?)\.nii(\.gz)?", re.I)
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


@dataclass(frozen=True, slots=True)
class BratsFiles:
    """Files of one BraTS case."""

    name: str
    """Name in the challenge, e.g. BraTS-GLI-00005-100."""
    told: CaseName
    """What the name tells: patient and label numbers."""
    folder: Path
    channels: Mapping[Role, Path]
    segmentation: Path | None
    twins: tuple[Path, Path] | None = None
    """Two files for one channel or for the segmentation, if there are any."""

    @property
    def patient(self) -> str:
        """Return the patient's part of the name."""
        return self.told.patient


def find_brats(folder: Path) -> tuple[BratsFiles, ...]:
    """Return the cases under a folder of any layout, sorted by name and path."""
    found: dict[tuple[Path, str], dict[str, list[Path]]] = {}
    for path in sorted(each for each in folder.rglob("*.nii*") if each.is_file()):
        if match := _CHANNEL.fullmatch(path.name):
            what = match["what"].lower()
            kind = "seg" if what.startswith("seg") else _ROLES[what]
            found.setdefault((path.parent, match["case"]), {}).setdefault(kind, []).append(path)
    earlier = _earlier_names(folder.rglob("name_mapping*.csv"))
    cases = []
    for (parent, name), files in found.items():
        beside = {other: theirs for (where, other), theirs in found.items() if where == parent and other != name}
        if not _has_channels(files) and any(map(_has_channels, beside.values())):
            continue  # a segmentation under another name than its case, as that of BraTS20_Training_355
        segmentations = files.get("seg") or _strays(beside)
        cases.append(
            BratsFiles(
                name=name,
                told=read_case_name(name, earlier),
                folder=parent,
                channels={Role(kind): paths[0] for kind, paths in files.items() if kind != "seg"},
                segmentation=segmentations[0] if segmentations else None,
                twins=next(
                    ((paths[0], paths[1]) for paths in (*files.values(), segmentations) if len(paths) > 1), None
                ),
            )
        )
    return tuple(sorted(cases, key=lambda case: (case.name, sorted(case.channels.values()))))


def _has_channels(files: Mapping[str, list[Path]]) -> bool:
    return bool(set(files) - {"seg"})


def _strays(beside: Mapping[str, Mapping[str, list[Path]]]) -> list[Path]:
    """Return the segmentations of no case in a folder with a single case; none that has the name of a BraTS case."""
    if any(map(_has_channels, beside.values())):
        return []
    return [path for name, files in beside.items() if read_case_name(name).numbers is None for path in files["seg"]]


def _earlier_names(tables: Iterable[Path]) -> dict[str, str]:
    """Map cases of 2020 to their names in an earlier year, by the tables that come with the challenge's data."""
    earlier: dict[str, str] = {}
    for table in sorted(tables):
        with table.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
            for row in csv.DictReader(stream):
                names = [row.get(f"BraTS_{year}_subject_ID") or "" for year in (2017, 2018, 2019)]
                known = [name for name in names if is_of_2017_to_2019(name)]
                if known and row.get("BraTS_2020_subject_ID"):
                    earlier[row["BraTS_2020_subject_ID"]] = known[0]
    return earlier
