"""Cross-validation over patients. Reads no voxels."""

import hashlib
from collections.abc import Iterator

from models.training.dataset.dataset import Case, Dataset
from models.training.dataset.manifest import Split
from models.training.train.settings import SettingsContradict


def fold_cases(dataset: Dataset, folds: int, seed: int) -> Iterator[tuple[tuple[Case, ...], tuple[Case, ...]]]:
    """(training cases, validation cases) of each fold; the test cases are in none.

    All cases of a patient are on one side. Every patient is validated on once. Raises SettingsContradict where there
    are fewer patients than folds.
    """
    cases = [case for case in dataset.cases if case.split is not Split.TEST]
    patients = sorted({case.patient for case in cases}, key=lambda patient: _lot(seed, patient))
    if len(patients) < folds or folds < 2:
        raise SettingsContradict(f"{folds} folds of {len(patients)} patients: 2 folds at least, and a patient for each")
    for fold in range(folds):
        left_out = set(patients[fold::folds])
        yield (
            tuple(case for case in cases if case.patient not in left_out),
            tuple(case for case in cases if case.patient in left_out),
        )


def _lot(seed: int, patient: str) -> bytes:
    return hashlib.sha256(f"{seed} fold {patient}".encode()).digest()
