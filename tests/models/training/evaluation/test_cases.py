"""The heads to measure are selected by numbers alone, and their seeds are never those of training or tuning."""

from pathlib import Path

import pytest

from models.training.evaluation.cases import LESION_FREE_OFFSET, HeadCase, StudyCase, SyntheticSelection
from models.training.synthetic.families import LEARNED_FROM, Family
from models.training.synthetic.samples import FIRST_HELD_OUT_SEED
from models.training.synthetic.tumour import Variant
from models.training.train.synthetic_heads import FIRST_TUNING_SEED

BOTH = (Family.PAINTED, Family.GROWN)


def test_variants_with_a_lesion_take_turns_in_each_family() -> None:
    turn = [variant for variant in Variant if variant is not Variant.LESION_FREE]
    count = len(turn) + 2
    cases = SyntheticSelection(BOTH, heads=count, lesion_free=0).cases
    for family in BOTH:
        heads = [case for case in cases if isinstance(case, HeadCase) and case.family is family]
        assert [head.seed for head in heads] == list(range(1_000_000, 1_000_000 + count))
        assert [head.variant for head in heads] == [*turn, *turn[:2]]
    assert len(cases) == 2 * count


def test_families_that_are_learned_from_share_their_heads() -> None:
    cases = [case for case in SyntheticSelection(heads=10, lesion_free=0).cases if isinstance(case, HeadCase)]
    assert [case.group for case in cases] == ["learned"] * 10 + ["grown"] * 10
    learned = {(case.family, case.variant) for case in cases[:10]}
    assert len(learned) == 10
    assert {family for family, _ in learned} == set(LEARNED_FROM)


def test_heads_without_a_lesion_are_shared_among_the_families() -> None:
    cases = SyntheticSelection(BOTH, heads=0, lesion_free=5).cases
    assert [(case.family, case.seed, case.variant) for case in cases if isinstance(case, HeadCase)] == [
        (Family.PAINTED, 1_500_000, Variant.LESION_FREE),
        (Family.GROWN, 1_500_000, Variant.LESION_FREE),
        (Family.PAINTED, 1_500_001, Variant.LESION_FREE),
        (Family.GROWN, 1_500_001, Variant.LESION_FREE),
        (Family.PAINTED, 1_500_002, Variant.LESION_FREE),
    ]


def test_no_seed_is_one_of_training_or_tuning() -> None:
    cases = SyntheticSelection((Family.PAINTED,), heads=2, lesion_free=2).cases
    with_lesion, without = (
        [case.seed for case in part if isinstance(case, HeadCase)] for part in (cases[:2], cases[2:])
    )
    # More than LESION_FREE_OFFSET of a kind is refused, so that both ranges end before the next begins.
    assert (min(with_lesion), min(without)) == (FIRST_HELD_OUT_SEED, FIRST_HELD_OUT_SEED + LESION_FREE_OFFSET)
    assert min(without) + LESION_FREE_OFFSET <= FIRST_TUNING_SEED


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="seeds below 1000000 are for training"):
        SyntheticSelection(first_seed=999_999)
    with pytest.raises(ValueError, match="nothing to measure"):
        SyntheticSelection(heads=0, lesion_free=0)
    with pytest.raises(ValueError, match="two studies are called one"):
        SyntheticSelection(studies=(tmp_path / "a" / "one", tmp_path / "b" / "one"))
    with pytest.raises(ValueError, match="each family of heads once"):
        SyntheticSelection((Family.GROWN, Family.GROWN))
    with pytest.raises(ValueError, match="500000 heads"):
        SyntheticSelection(heads=500_001)


def test_a_study_is_another_case_when_its_truth_or_its_images_change(tmp_path: Path) -> None:
    (tmp_path / "one" / "dicom" / "t1").mkdir(parents=True)
    (tmp_path / "one" / "dicom" / "t1" / "a.dcm").write_bytes(b"1234")
    (tmp_path / "one" / "truth_adc.nii.gz").write_bytes(b"mask")
    study = StudyCase(tmp_path / "one")
    first = study.journal_key
    assert first.startswith("real-one-")
    assert study.journal_key == first
    assert study.case_id == "one"
    (tmp_path / "one" / "truth_adc.nii.gz").write_bytes(b"task")
    second = study.journal_key
    (tmp_path / "one" / "dicom" / "t1" / "b.dcm").write_bytes(b"1234")
    assert len({first, second, study.journal_key}) == 3
