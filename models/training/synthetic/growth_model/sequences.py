"""Simulate the signal of tissues in spoiled gradient echo, MPRAGE, turbo spin echo and FLAIR sequences.

One repetition, a chain of pulses and waits, maps longitudinal magnetisation m to a m + b. The steady state is the fixed
point of this map.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TissueValues = NDArray[np.float64]
"""A value for every `Tissue`, in its order."""


@dataclass(frozen=True, slots=True)
class Tissues:
    """Properties of the tissues of one head in one scanner."""

    density: TissueValues
    t1_ms: TissueValues
    t2_ms: TissueValues
    adc: TissueValues
    """10^-6 mm2/s."""
    agent_mm: TissueValues
    """Concentration of contrast agent after injection, mmol/l."""
    relaxivity: tuple[float, float]
    """Increase of 1/T1 and of 1/T2 by 1 mmol/l, in 1/s."""

    def with_agent(self) -> "Tissues":
        """Return the tissues after injection: both relaxation rates rise with the concentration."""
        r1, r2 = self.relaxivity
        t1 = 1 / (1 / self.t1_ms + r1 * self.agent_mm / 1000)
        t2 = 1 / (1 / self.t2_ms + r2 * self.agent_mm / 1000)
        return Tissues(self.density, t1, t2, self.adc, self.agent_mm, self.relaxivity)


@dataclass(frozen=True, slots=True)
class PreparedTiming:
    """Timing of an MPRAGE; the angle is in radians."""

    inversion_ms: float
    """Time from the inversion to the middle of the readout."""
    recovery_ms: float
    spacing_ms: float
    pulses: int
    angle: float
    echo_ms: float
    efficiency: float
    """Efficiency of the inversion, 0 to 1."""


@dataclass(frozen=True, slots=True)
class TurboTiming:
    """Timing of a turbo spin echo. Its refocusing train leaves no longitudinal magnetisation."""

    repetition_ms: float
    inversion_ms: float
    """Inversion time; 0 for no inversion."""
    train_ms: float
    echo_ms: float
    """Effective echo time."""
    efficiency: float


@dataclass(frozen=True, slots=True)
class _Chain:
    """Effect of pulses and waits on longitudinal magnetisation: m -> factor m + gain."""

    factor: TissueValues
    gain: TissueValues

    def then(self, other: "_Chain") -> "_Chain":
        """Return the chain of this and then the other."""
        return _Chain(other.factor * self.factor, other.factor * self.gain + other.gain)

    def steady_state(self) -> TissueValues:
        """Return the magnetisation that the chain maps to itself."""
        return np.asarray(self.gain / (1 - self.factor))

    def apply(self, magnetisation: TissueValues) -> TissueValues:
        """Return the magnetisation after the chain."""
        return np.asarray(self.factor * magnetisation + self.gain)


def _wait(t1_ms: TissueValues, time_ms: float) -> _Chain:
    left = np.exp(-time_ms / t1_ms)
    return _Chain(left, 1 - left)


def _scaled(t1_ms: TissueValues, factor: float) -> _Chain:
    """Return a pulse that scales the magnetisation, by the cosine of its angle or minus an inversion's efficiency."""
    return _Chain(np.full_like(t1_ms, factor), np.zeros_like(t1_ms))


def _train(t1_ms: TissueValues, angle: float, spacing_ms: float, pulses: int) -> _Chain:
    """Return a train of pulses of `angle` (radians), each followed by a wait."""
    one = _scaled(t1_ms, float(np.cos(angle))).then(_wait(t1_ms, spacing_ms))
    factor = one.factor**pulses
    return _Chain(factor, one.gain * (1 - factor) / (1 - one.factor))


def gradient_echo(tissues: Tissues, repetition_ms: float, echo_ms: float, angle: float) -> TissueValues:
    """Return the signal of a spoiled gradient echo (FLASH, Haase 1990); `angle` is in radians."""
    before = _train(tissues.t1_ms, angle, repetition_ms, 1).steady_state()
    return np.asarray(tissues.density * before * np.sin(angle) * np.exp(-echo_ms / _t2_star(tissues)))


def prepared_gradient_echo(tissues: Tissues, timing: PreparedTiming) -> TissueValues:
    """Return the signal of an MPRAGE (Mugler & Brookeman 1990) in the middle of the readout."""
    t1, readout = tissues.t1_ms, timing.pulses * timing.spacing_ms
    half = timing.pulses // 2
    to_middle = (
        _scaled(t1, -timing.efficiency)
        .then(_wait(t1, max(timing.inversion_ms - readout / 2, 1.0)))
        .then(_train(t1, timing.angle, timing.spacing_ms, half))
    )
    rest = _train(t1, timing.angle, timing.spacing_ms, timing.pulses - half).then(_wait(t1, timing.recovery_ms))
    middle = to_middle.apply(to_middle.then(rest).steady_state())
    return np.asarray(
        tissues.density * np.abs(middle) * np.sin(timing.angle) * np.exp(-timing.echo_ms / _t2_star(tissues))
    )


def turbo_spin_echo(tissues: Tissues, timing: TurboTiming) -> TissueValues:
    """Return the signal of a T2 or FLAIR. After the train, magnetisation recovers from 0, incompletely."""
    t1 = tissues.t1_ms
    recovered = _wait(t1, timing.repetition_ms - timing.inversion_ms - timing.train_ms).gain
    if timing.inversion_ms:
        recovered = _scaled(t1, -timing.efficiency).then(_wait(t1, timing.inversion_ms)).apply(recovered)
    return np.asarray(tissues.density * np.abs(recovered) * np.exp(-timing.echo_ms / tissues.t2_ms))


def nulling_inversion_ms(t1_ms: float, repetition_ms: float, train_ms: float, efficiency: float) -> float:
    """Find the inversion time at which a tissue has no signal in `turbo_spin_echo`, by bisection."""
    low, high = 1.0, repetition_ms - train_ms - 1
    for _ in range(60):
        middle = (low + high) / 2
        recovered = 1 - np.exp(-(repetition_ms - middle - train_ms) / t1_ms)
        left = 1 - (1 + efficiency * recovered) * np.exp(-middle / t1_ms)
        low, high = (low, middle) if left > 0 else (middle, high)
    return (low + high) / 2


def _t2_star(tissues: Tissues) -> TissueValues:
    # Field inhomogeneity inside a voxel adds some 15 per second to 1/T2.
    return np.asarray(1 / (1 / tissues.t2_ms + 0.015))
