"""Splits keep patients whole and follow from the seed; pseudonyms follow from the key."""

import stat
from pathlib import Path

import pytest

from models.training.dataset.manifest import DatasetBroken, Split
from models.training.dataset.pseudonyms import Pseudonyms, open_key
from models.training.dataset.splits import Shares, split_patients

PATIENTS = [f"p{number}" for number in range(50)]


def count(splits: dict[str, Split]) -> list[int]:
    return [list(splits.values()).count(split) for split in Split]


def test_shares_are_exact_and_follow_from_the_seed() -> None:
    one = split_patients(PATIENTS, Shares(0.2, 0.1), seed=1)
    assert count(one) == [35, 10, 5]
    assert split_patients(reversed(PATIENTS), Shares(0.2, 0.1), seed=1) == one
    assert split_patients(PATIENTS, Shares(0.2, 0.1), seed=2) != one
    assert count(split_patients(PATIENTS[:3], Shares(0.1, 0.1), seed=1)) == [1, 1, 1]


def test_known_patients_stay_where_they_were() -> None:
    earlier = split_patients(PATIENTS[:30], Shares(0.2, 0.2), seed=1)
    later = split_patients(PATIENTS, Shares(0.2, 0.2), seed=9, known=earlier)
    assert {patient: later[patient] for patient in earlier} == earlier
    assert count(later) == [30, 10, 10]


def test_names_that_proved_to_be_one_patient_share_a_split() -> None:
    """p1 to p5 are one patient by equal images; p6 goes by a name of which no case is left."""
    same = [("p1", "p2"), ("p4", "p5"), ("p5", "p2"), ("p4", "p3"), ("p6", "gone")]
    for seed in range(20):
        splits = split_patients(PATIENTS[:10], Shares(0.3, 0.3), seed, same=same)
        assert set(splits) == set(PATIENTS[:10])
        assert len({splits[f"p{number}"] for number in range(1, 6)}) == 1
    assert len({split_patients(PATIENTS[:10], Shares(0.3, 0.3), seed)["p1"] for seed in range(20)}) == 3
    held_out = {"p2": Split.TEST, "gone": Split.VALIDATION}
    splits = split_patients(PATIENTS[:10], Shares(0.3, 0.3), 1, held_out, same)
    assert (splits["p1"], splits["p6"]) == (Split.TEST, Split.VALIDATION)


def test_impossible_shares_are_refused() -> None:
    with pytest.raises(ValueError, match="their sum must be below 1"):
        Shares(0.5, 0.5)


def test_names_follow_from_the_key_and_what_is_named() -> None:
    names = Pseudonyms(b"k" * 32)
    assert names("patient", "4711") == names("patient", "4711")
    others = {names("patient", "4712"), names("study", "4711"), Pseudonyms(b"l" * 32)("patient", "4711")}
    assert len(others | {names("patient", "4711")}) == 4
    assert "kkk" not in repr(names)


def test_a_key_is_made_once_for_its_owner_alone_and_never_in_the_set(tmp_path: Path) -> None:
    path = tmp_path / "config" / "dataset.key"
    made = open_key(path, tmp_path / "out")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert open_key(path, tmp_path / "out") == made
    with pytest.raises(DatasetBroken, match="would be inside of the data set"):
        open_key(tmp_path / "out" / "key", tmp_path / "out")
    path.write_text("not a key")
    with pytest.raises(DatasetBroken, match="is not a key"):
        open_key(path, tmp_path / "out")
