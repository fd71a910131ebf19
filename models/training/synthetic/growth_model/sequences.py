"""Sequences as chains of pulses and waits: what tissues of given relaxation give. Knows no anatomy and draws nothing.

Magnetisation along the field is followed through one repetition as an affine map, m -> a m + b, whose fixed point is
the steady state: spoiled gradient echo with and without preparation (MPRAGE), turbo spin echo with and without
inversion (FLAIR).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
"""One value per tissue."""


@dataclass(frozen=True, slots=True)
class Tissues:
    """One head's tissues in one scanner."""

    density: Values
    t1_ms: Values
    t2_ms: Values
    adc: Values
    """10^-6 mm2/s."""
    agent_mm: Values
    """Concentration of contrast agent after injection, mmol/l."""
    relaxivity: tuple[float, float]
    """What a mmol/l adds to 1/T1 and to 1/T2, in 1/s."""

    def with_agent(self) -> "Tissues":
        """The same after injection: both relaxation rates rise with the concentration."""
        r1, r2 = self.relaxivity
        t1 = 1 / (1 / self.t1_ms + r1 * self.agent_mm / 1000)
        t2 = 1 / (1 / self.t2_ms + r2 * self.agent_mm / 1000)
        return Tissues(self.density, t1, t2, self.adc, self.agent_mm, self.relaxivity)


@dataclass(frozen=True, slots=True)
class PreparedTiming:
    """An MPRAGE."""

    inversion_ms: float
    """From the inversion to the middle of the readout."""
    recovery_ms: float
    spacing_ms: float
    pulses: int
    angle: float
    echo_ms: float
    efficiency: float
    """Of the inversion."""


@dataclass(frozen=True, slots=True)
class TurboTiming:
    """A turbo spin echo. Its refocusing train leaves no magnetisation along the field."""

    repetition_ms: float
    inversion_ms: float
    """0 for none."""
    train_ms: float
    echo_ms: float
    """Effective: what the decay over the train amounts to."""
    efficiency: float


@dataclass(frozen=True, slots=True)
class _Chain:
    """What a series of pulses and waits does to magnetisation along the field: m -> factor m + gain."""

    factor: Values
    gain: Values

    def then(self, other: "_Chain") -> "_Chain":
        """This and then the other."""
        return _Chain(other.factor * self.factor, other.factor * self.gain + other.gain)

    def steady(self) -> Values:
        """The magnetisation that comes back to itself."""
        return np.asarray(self.gain / (1 - self.factor))

    def of(self, magnetisation: Values) -> Values:
        """Where a magnetisation is afterwards."""
        return np.asarray(self.factor * magnetisation + self.gain)


def _wait(t1_ms: Values, time_ms: float) -> _Chain:
    left = np.exp(-time_ms / t1_ms)
    return _Chain(left, 1 - left)


def _scaled(t1_ms: Values, factor: float) -> _Chain:
    """A pulse that leaves this share: the cosine of its angle, for an inversion a bit less than -1 in size."""
    return _Chain(np.full_like(t1_ms, factor), np.zeros_like(t1_ms))


def _train(t1_ms: Values, angle: float, spacing_ms: float, pulses: int) -> _Chain:
    """Many small pulses of `angle` (radians), each followed by a wait."""
    one = _scaled(t1_ms, float(np.cos(angle))).then(_wait(t1_ms, spacing_ms))
    factor = one.factor**pulses
    return _Chain(factor, one.gain * (1 - factor) / (1 - one.factor))


def gradient_echo(tissues: Tissues, repetition_ms: float, echo_ms: float, angle: float) -> Values:
    """Spoiled gradient echo (FLASH, Haase 1990)."""
    before = _train(tissues.t1_ms, angle, repetition_ms, 1).steady()
    return np.asarray(tissues.density * before * np.sin(angle) * np.exp(-echo_ms / _t2_star(tissues)))


def prepared_gradient_echo(tissues: Tissues, timing: PreparedTiming) -> Values:
    """MPRAGE (Mugler & Brookeman 1990): signal in the middle of the readout that follows each inversion."""
    t1, readout = tissues.t1_ms, timing.pulses * timing.spacing_ms
    half = timing.pulses // 2
    to_middle = (
        _scaled(t1, -timing.efficiency)
        .then(_wait(t1, max(timing.inversion_ms - readout / 2, 1.0)))
        .then(_train(t1, timing.angle, timing.spacing_ms, half))
    )
    rest = _train(t1, timing.angle, timing.spacing_ms, timing.pulses - half).then(_wait(t1, timing.recovery_ms))
    middle = to_middle.of(to_middle.then(rest).steady())
    return np.asarray(
        tissues.density * np.abs(middle) * np.sin(timing.angle) * np.exp(-timing.echo_ms / _t2_star(tissues))
    )


def turbo_spin_echo(tissues: Tissues, timing: TurboTiming) -> Values:
    """T2 and FLAIR. After the train, magnetisation recovers from nothing, and not fully before the next inversion."""
    t1 = tissues.t1_ms
    recovered = _wait(t1, timing.repetition_ms - timing.inversion_ms - timing.train_ms).gain
    if timing.inversion_ms:
        recovered = _scaled(t1, -timing.efficiency).then(_wait(t1, timing.inversion_ms)).of(recovered)
    return np.asarray(tissues.density * np.abs(recovered) * np.exp(-timing.echo_ms / tissues.t2_ms))


def nulling_inversion_ms(t1_ms: float, repetition_ms: float, train_ms: float, efficiency: float) -> float:
    """The inversion time at which a tissue gives no signal, by bisection of `turbo_spin_echo`."""
    low, high = 1.0, repetition_ms - train_ms - 1
    for _ in range(60):
        middle = (low + high) / 2
        recovered = 1 - np.exp(-(repetition_ms - middle - train_ms) / t1_ms)
        left = 1 - (1 + efficiency * recovered) * np.exp(-middle / t1_ms)
        low, high = (low, middle) if left > 0 else (middle, high)
    return (low + high) / 2


def _t2_star(tissues: Tissues) -> Values:
    # Field inhomogeneity inside a voxel adds some 15 per second to 1/T2.
    return np.asarray(1 / (1 / tissues.t2_ms + 0.015))
