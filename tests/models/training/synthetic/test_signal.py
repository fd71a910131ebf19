"""The signal equations give each sequence its usual contrast, and agree with the label rule."""

import numpy as np
import pytest

from models.labels import Role
from models.training.synthetic.head import LABEL_TISSUES
from models.training.synthetic.signal import B_VALUE_S_MM2, Contrast, draw_contrast, echo_planar_levels, signal_levels
from models.training.synthetic.tissue import Tissue

SPREAD = 0.06


@pytest.fixture(params=range(25))
def contrast(request: pytest.FixtureRequest) -> Contrast:
    return draw_contrast(np.random.default_rng(request.param), SPREAD)


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.ADC])
def test_white_matter_has_signal_1_and_air_0(contrast: Contrast, role: Role) -> None:
    levels = signal_levels(role, contrast)
    assert levels[Tissue.WHITE] == pytest.approx(1)
    assert levels[Tissue.AIR] == 0
    assert (levels >= 0).all()


def test_sequences_have_their_usual_contrast(contrast: Contrast) -> None:
    t1, t1ce, t2, flair = (signal_levels(role, contrast) for role in (Role.T1, Role.T1CE, Role.T2, Role.FLAIR))
    assert t1[Tissue.CSF] < t1[Tissue.GREY] < 1.2
    assert t1[Tissue.FAT] > 1
    assert t2[Tissue.CSF] > t2[Tissue.GREY] > 1
    assert flair[Tissue.CSF] < 0.6  # nulled, or nearly
    # Contrast agent enhances rims and vessels, but not healthy brain.
    assert t1ce[Tissue.ENHANCING] > 1.1 * t1[Tissue.ENHANCING]
    assert t1ce[Tissue.VESSEL] > 1.5 * t1[Tissue.VESSEL]
    assert t1ce[Tissue.GREY] == pytest.approx(t1[Tissue.GREY], rel=0.1)


def test_a_flair_after_contrast_is_brighter_where_contrast_agent_is(contrast: Contrast) -> None:
    before, after = (signal_levels(Role.FLAIR, contrast, enhanced) for enhanced in (False, True))
    assert after[Tissue.ENHANCING] > 1.1 * before[Tissue.ENHANCING]
    assert after[Tissue.VESSEL] > before[Tissue.VESSEL]
    assert after[Tissue.OEDEMA] == pytest.approx(before[Tissue.OEDEMA], rel=0.1)
    for role in (Role.T1, Role.T1CE, Role.ADC):
        assert np.array_equal(*(signal_levels(role, contrast, enhanced) for enhanced in (False, True)))


def test_signals_agree_with_the_label_rule(contrast: Contrast) -> None:
    adc, flair = signal_levels(Role.ADC, contrast), signal_levels(Role.FLAIR, contrast)
    enhancing, abnormal, bright = LABEL_TISSUES
    assert all(adc[tissue] > adc[Tissue.WHITE] for tissue in abnormal)
    assert all(flair[tissue] > 1.1 for tissue in bright)
    assert flair[Tissue.NECROSIS] < min(flair[tissue] for tissue in bright)
    assert all(contrast.uptake_per_s[tissue] >= 0.5 for tissue in enhancing)
    others = set(abnormal) - set(enhancing)
    assert all(contrast.uptake_per_s[tissue] < 0.1 for tissue in others)


@pytest.mark.parametrize(
    ("tissue", "low", "high"),
    [
        (Tissue.WHITE, 650, 800),
        (Tissue.GREY, 780, 1000),
        (Tissue.CSF, 2700, 3200),
        (Tissue.ENHANCING, 850, 1200),
        (Tissue.OEDEMA, 1300, 1700),
        (Tissue.NECROSIS, 1800, 2800),
    ],
)
def test_adc_lies_in_the_range_of_its_tissue(contrast: Contrast, tissue: Tissue, low: float, high: float) -> None:
    assert low <= signal_levels(Role.ADC, contrast)[tissue] <= high


def test_trace_and_b0_imply_the_adc(contrast: Contrast) -> None:
    b0 = echo_planar_levels(contrast)
    trace = signal_levels(Role.DWI, contrast)
    # Stejskal and Tanner: ADC = ln(S0 / S) / b. The trace is in units of white matter, so only ratios count.
    ratio = (b0[Tissue.OEDEMA] / b0[Tissue.WHITE]) / trace[Tissue.OEDEMA]
    adc = contrast.adc[Tissue.WHITE] + 1e6 * np.log(ratio) / B_VALUE_S_MM2
    assert adc == pytest.approx(contrast.adc[Tissue.OEDEMA], rel=1e-3)


def test_drawing_follows_from_the_generator() -> None:
    first, again = (draw_contrast(np.random.default_rng(9), SPREAD) for _ in range(2))
    assert np.array_equal(signal_levels(Role.FLAIR, first), signal_levels(Role.FLAIR, again))
