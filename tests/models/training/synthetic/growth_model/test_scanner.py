"""The signals of grown heads have their usual contrast and agree with the label rule."""

import numpy as np
import pytest

from models.labels import Role
from models.training.synthetic.growth_model.scanner import draw_appearance
from models.training.synthetic.head import LABEL_TISSUES
from models.training.synthetic.signal import Appearance, draw_contrast, signal_levels
from models.training.synthetic.tissue import Tissue


@pytest.fixture(scope="module")
def appearances() -> list[Appearance]:
    return [draw_appearance(np.random.default_rng(seed)) for seed in range(300)]


def test_every_sequence_has_a_level_for_every_tissue(appearances: list[Appearance]) -> None:
    for appearance in appearances:
        assert set(appearance.levels) == set(Role)
        for role, levels in appearance.levels.items():
            assert levels.dtype == np.float32
            assert levels.shape == (len(Tissue),)
            assert np.isfinite(levels).all()
            assert (levels >= 0).all()
            assert levels[Tissue.AIR] == 0
            if role is not Role.ADC:
                assert levels[Tissue.WHITE] == pytest.approx(1)


def test_sequences_have_their_usual_contrast(appearances: list[Appearance]) -> None:
    for appearance in appearances:
        t1, t1ce, t2, flair = (appearance.levels[role] for role in (Role.T1, Role.T1CE, Role.T2, Role.FLAIR))
        assert t1[Tissue.CSF] < t1[Tissue.GREY] < 1
        assert t1[Tissue.FAT] > 1.5
        assert t2[Tissue.CSF] > t2[Tissue.GREY] > 1
        assert flair[Tissue.CSF] < 0.6
        assert t1ce[Tissue.ENHANCING] > 1.1 * t1[Tissue.ENHANCING]
        assert t1ce[Tissue.VESSEL] > 1.5 * t1[Tissue.VESSEL]


def test_signals_agree_with_the_label_rule(appearances: list[Appearance]) -> None:
    enhancing, abnormal, bright = LABEL_TISSUES
    for appearance in appearances:
        adc, flair, before, after = (appearance.levels[role] for role in (Role.ADC, Role.FLAIR, Role.T1, Role.T1CE))
        assert all(adc[tissue] > 1.05 * adc[Tissue.WHITE] for tissue in abnormal)
        assert all(flair[tissue] > 1.1 for tissue in bright)
        assert flair[Tissue.NECROSIS] < min(flair[tissue] for tissue in bright)
        gain = after / np.maximum(before, 1e-6)
        others = (set(abnormal) - set(enhancing)) - {Tissue.NECROSIS}  # near its null a little agent is a large gain
        assert min(gain[tissue] for tissue in enhancing) > max(gain[tissue] for tissue in others)


@pytest.mark.parametrize(
    ("tissue", "low", "high"),
    [
        (Tissue.WHITE, 650, 800),
        (Tissue.GREY, 780, 1000),
        (Tissue.CSF, 2700, 3200),
        (Tissue.ENHANCING, 850, 1200),
        (Tissue.OEDEMA, 1300, 1700),
        (Tissue.NECROSIS, 1800, 2800),
        (Tissue.CAVITY, 2500, 3200),
    ],
)
def test_adc_lies_in_the_range_of_its_tissue(
    appearances: list[Appearance], tissue: Tissue, low: float, high: float
) -> None:
    assert all(low <= appearance.levels[Role.ADC][tissue] <= high for appearance in appearances)


def test_it_is_another_model_than_the_training_family_s(appearances: list[Appearance]) -> None:
    # Spin echoes give white matter about 1.3 times the signal of grey; gradient echoes after an inversion far more.
    painted = [signal_levels(Role.T1, draw_contrast(np.random.default_rng(seed), 0.06)) for seed in range(100)]
    theirs = np.median([levels[Tissue.GREY] for levels in painted])
    ours = np.median([appearance.levels[Role.T1][Tissue.GREY] for appearance in appearances])
    assert ours < theirs - 0.05


def test_drawing_follows_from_the_generator(appearances: list[Appearance]) -> None:
    again = draw_appearance(np.random.default_rng(7))
    assert all(np.array_equal(again.levels[role], appearances[7].levels[role]) for role in Role)
    assert again.artefacts == appearances[7].artefacts
    assert not np.array_equal(again.levels[Role.FLAIR], appearances[8].levels[Role.FLAIR])
