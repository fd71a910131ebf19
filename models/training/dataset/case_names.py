"""Read what the name of a public case tells: its patient, and the label numbers of its year. Reads no files.

    year        names                                                          label numbers
    2017-2019   Brats18_2013_2_1, BraTS19_CBICA_AAB_1                          1 NCR/NET, 2 ED, 4 ET
    2020, 2021  BraTS20_Training_001, BraTS2021_00000                          1 NCR, 2 ED, 4 ET
    FeTS        FeTS21_Training_001, FeTS2022_00000: the cases of 2020, 2021   1 NCR, 2 ED, 4 ET
    2023        BraTS-GLI-00000-000, BraTS-SSA-00002-000                       1 NCR, 2 SNFH, 3 ET
    2024        as 2023, after treatment: time points from 100, as in ...-100  1 NETC, 2 SNFH, 3 ET, 4 RC

The time points are those in public lists of the cases of 2024 (BraTS-GLI-02143-102, BraTS-GLI-02405-100). A name that
is none of these tells no numbers, however much its files look like those of BraTS: sets of that form after treatment
have 3 for enhancing tumour and 4 for the cavity.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from models.training.dataset.label_numbers import IN_2023, SINCE_2024, UNTIL_2021, LabelNumbers

_2017_TO_2019 = re.compile(r"brats1[789]_(?P<patient>.+)_\d+", re.I)
_2020 = re.compile(r"(?:brats20|fets(?:20)?21)_(?P<part>training|validation|testing)_(?P<patient>\d+)", re.I)
_2021 = re.compile(r"(?:brats2021|fets2022)_(?:(?:training|validation|testing)_)?(?P<patient>\d+)", re.I)
_2023 = re.compile(r"brats-(?P<task>gli|ssa)-(?P<patient>\d+)-(?P<time>\d+)", re.I)
_TASK = re.compile(r"brats-(?P<task>[a-z]+)-.+", re.I)
_FIRST_TIME_AFTER_TREATMENT = 100
_GLIOMA_TASKS = ("gli", "ssa")
"""Adult gliomas, and those of Sub-Saharan Africa. Other tasks are metastases, meningiomas, mixtures, and paediatric
tumours, which have other label numbers."""

_SUBJECT = re.compile(r"sub-[a-z0-9]+(?=[_-])", re.I)
"""The patient in names of BIDS (Brain Imaging Data Structure), before session, acquisition and run."""
_TIME = re.compile(
    r"[ _.-](?:time[ _-]?point|tp|session|ses|visit|vis|week|month|day|follow[ _-]?up|fu|baseline|"
    r"pre[ _-]?op(?:erative)?|post[ _-]?op(?:erative)?)"
    r"(?=[ _.-]|\d|$)",
    re.I,
)
"""Where a time point begins, whatever stands before it."""
_VAGUE_TIME = re.compile(
    r"[ _.-](?:time|scan|exam|study|pre|post|[tvs](?=[_-]?\d)|"
    r"(?:19|20)\d\d[ _.-]?(?:0[1-9]|1[0-2])[ _.-]?(?:0[1-9]|[12]\d|3[01])(?!\d))"
    r"(?=[ _.-]|\d|$)",
    re.I,
)
"""Where a time point begins if a number, the patient's, stands before it."""
_BARE_TIME = re.compile(r"(?P<patient>.*\d{3})[_-]\d{1,2}|(?P<other>.*\d{4})[_-]\d{3}", re.I)
"""A number of few digits after the patient's, as in RHUH-0001_0 and UCSD-PTGBM-0176_02."""


@dataclass(frozen=True, slots=True)
class CaseName:
    """What the name of a case tells."""

    patient: str
    """Equal for all studies of a patient, as far as names tell."""
    numbers: LabelNumbers | None
    """The label numbers of its year; None for a name of no known year."""
    not_glioma: bool = False
    """Whether the name belongs to another task of BraTS."""


def read_case_name(name: str, earlier_names: Mapping[str, str] | None = None) -> CaseName:
    """Return what a name tells; `earlier_names` maps names of 2020 to those of the same patient in an earlier year."""
    if match := _2023.fullmatch(name):
        treated = int(match["time"]) >= _FIRST_TIME_AFTER_TREATMENT
        return CaseName(f"{match['task'].upper()}-{match['patient']}", SINCE_2024 if treated else IN_2023)
    if match := _TASK.fullmatch(name):
        return CaseName(patient_in(name), None, not_glioma=match["task"].lower() not in _GLIOMA_TASKS)
    if match := _2020.fullmatch(name):
        of_2020 = f"BraTS20_{match['part'].capitalize()}_{match['patient']}"
        earlier = (earlier_names or {}).get(of_2020)
        return read_case_name(earlier) if earlier else CaseName(of_2020, UNTIL_2021)
    if match := _2017_TO_2019.fullmatch(name):
        # A patient is TCIA_105 in 2017 and TCIA08_105 since 2018.
        return CaseName(re.sub(r"^TCIA\d*_", "TCIA_", match["patient"], flags=re.I), UNTIL_2021)
    if match := _2021.fullmatch(name):
        # 2023 contains the cases of 2021, as far as known under the same numbers. Take equal numbers for one patient.
        return CaseName(f"GLI-{match['patient']}", UNTIL_2021)
    return CaseName(patient_in(name), None)


def is_of_2017_to_2019(name: str) -> bool:
    """Return whether a name is one of these years, which a patient keeps in all of them."""
    return _2017_TO_2019.fullmatch(name) is not None


def patient_in(name: str) -> str:
    """Return a name up to its time point: PatientID_0003 for PatientID_0003_Timepoint_2, sub-07 for sub-07_ses-01.

    Where it is not sure that a word or number tells a time it is taken for one. Two patients in one split do no harm;
    one patient in training and in the test does.
    """
    if match := _SUBJECT.match(name):
        return match[0]
    starts = [match.start() for match in _TIME.finditer(name)]
    starts += [match.start() for match in _VAGUE_TIME.finditer(name) if re.search(r"\d", name[: match.start()])]
    if first := min(starts, default=0):
        return name[:first]
    bare = _BARE_TIME.fullmatch(name)
    return (bare["patient"] or bare["other"]) if bare else name
