"""Sequences agree with their textbook equations, where these have a solution."""

from dataclasses import replace

import numpy as np
import pytest

from models.training.synthetic.growth_model.sequences import (
    PreparedTiming,
    Tissues,
    TurboTiming,
    gradient_echo,
    nulling_inversion_ms,
    prepared_gradient_echo,
    turbo_spin_echo,
)

T1 = np.array((300.0, 900.0, 1400.0, 4200.0))
PLAIN = Tissues(
    density=np.ones(4), t1_ms=T1, t2_ms=np.full(4, 80.0), adc=np.zeros(4), agent_mm=np.zeros(4), relaxivity=(4.5, 5.5)
)
MPRAGE = PreparedTiming(900, 600, 7.0, 160, np.radians(9), 3.0, 0.96)


def test_a_spoiled_gradient_echo_follows_the_ernst_equation() -> None:
    angle, repetition = np.radians(25), 20.0
    left = np.exp(-repetition / T1)
    ernst = np.sin(angle) * (1 - left) / (1 - np.cos(angle) * left)
    decay = np.exp(-4 * (1 / 80 + 0.015))
    assert gradient_echo(PLAIN, repetition, 4, angle) == pytest.approx(ernst * decay)
    # The Ernst angle gives most: arccos(exp(-TR / T1)).
    best = np.arccos(left[1])
    signals = [gradient_echo(PLAIN, repetition, 4, a)[1] for a in (0.8 * best, best, 1.2 * best)]
    assert signals[1] == max(signals)


def test_mprage_equals_a_step_by_step_simulation() -> None:
    signal = prepared_gradient_echo(PLAIN, MPRAGE)
    spins = np.ones(4)
    for _ in range(30):  # repetitions until the steady state
        spins = -MPRAGE.efficiency * spins
        spins = 1 + (spins - 1) * np.exp(-(900 - 160 * 7 / 2) / T1)
        for pulse in range(160):
            if pulse == 80:
                middle = spins
            spins = 1 + (spins * np.cos(MPRAGE.angle) - 1) * np.exp(-7.0 / T1)
        spins = 1 + (spins - 1) * np.exp(-600 / T1)
    decay = np.exp(-3 * (1 / 80 + 0.015))
    assert signal == pytest.approx(np.abs(middle) * np.sin(MPRAGE.angle) * decay, rel=1e-6)


def test_flair_nulls_the_chosen_tissue() -> None:
    for repetition, train in ((5500.0, 600.0), (10000.0, 120.0)):
        null = nulling_inversion_ms(4200.0, repetition, train, 0.96)
        timing = TurboTiming(repetition, null, train, 110, 0.96)
        assert turbo_spin_echo(PLAIN, timing)[3] == pytest.approx(0, abs=1e-6)
        assert turbo_spin_echo(PLAIN, timing)[1] > 0.1
    # With a long repetition and a perfect pulse the null is that of textbooks: T1 ln 2.
    assert nulling_inversion_ms(400.0, 20000.0, 100.0, 1.0) == pytest.approx(400 * np.log(2), rel=1e-4)


def test_slow_recovery_gives_less_signal_at_a_short_repetition_time() -> None:
    short, long = (turbo_spin_echo(PLAIN, TurboTiming(tr, 0, 130, 90, 1)) for tr in (3000, 9000))
    assert (short < long).all()
    assert long[1] / short[1] < long[3] / short[3]
    assert long == pytest.approx((1 - np.exp(-8870 / T1)) * np.exp(-90 / 80))


def test_agent_shortens_both_times_by_its_relaxivities() -> None:
    enhanced = replace(PLAIN, agent_mm=np.array((0, 0.5, 0.5, 0.5))).with_agent()
    assert enhanced.t1_ms[0] == T1[0]
    assert 1000 / enhanced.t1_ms[1] == pytest.approx(1000 / 900 + 4.5 * 0.5)
    assert 1000 / enhanced.t2_ms[1] == pytest.approx(1000 / 80 + 5.5 * 0.5)
    assert (prepared_gradient_echo(enhanced, MPRAGE) > prepared_gradient_echo(PLAIN, MPRAGE))[1:3].all()
