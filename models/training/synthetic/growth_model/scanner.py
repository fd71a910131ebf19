"""Draw tissue properties, protocol and artefact strengths of the scanner of a grown head.

Relaxation times are tabulated for 1.5 T and 3 T. Contrast agent has a concentration and shortens T1 and T2 by its
relaxivities. The ADC ranges are those on which the label rule is based (see `head`).
"""

from dataclasses import dataclass

import numpy as np

from models.labels import Role
from models.training.synthetic.growth_model.sequences import (
    PreparedTiming,
    Tissues,
    TissueValues,
    TurboTiming,
    gradient_echo,
    nulling_inversion_ms,
    prepared_gradient_echo,
    turbo_spin_echo,
)
from models.training.synthetic.signal import B_VALUE_S_MM2, Appearance, ArtefactStrengths, Levels
from models.training.synthetic.tissue import Tissue


@dataclass(frozen=True, slots=True)
class _Range:
    """Ranges of the mean of a tissue over heads. T1 at 1.5 and 3 T and T2 in ms, contrast agent in mM."""

    density: tuple[float, float]
    t1_at_1_5: tuple[float, float]
    t1_at_3: tuple[float, float]
    t2: tuple[float, float]
    adc: tuple[float, float]
    """10^-6 mm2/s."""
    agent: tuple[float, float]
    texture: float
    """Relative amplitude of the texture in the tissue."""


_RANGES: dict[Tissue, _Range] = {
    Tissue.AIR: _Range((0, 0), (900, 900), (900, 900), (1, 1), (0, 0), (0, 0), 0),
    Tissue.MUSCLE: _Range((0.70, 0.80), (880, 1050), (1150, 1420), (32, 46), (1050, 1650), (0.02, 0.12), 0.05),
    Tissue.FAT: _Range((0.85, 0.98), (240, 300), (340, 400), (70, 130), (20, 250), (0, 0.01), 0.04),
    Tissue.BONE: _Range((0.03, 0.10), (700, 1000), (800, 1100), (3, 9), (0, 500), (0, 0), 0.25),
    Tissue.MARROW: _Range((0.50, 0.75), (280, 500), (360, 620), (50, 95), (100, 500), (0, 0.08), 0.12),
    Tissue.CSF: _Range((0.98, 1.00), (3900, 4400), (4000, 4500), (1200, 2100), (2750, 3200), (0, 0.004), 0.015),
    Tissue.GREY: _Range((0.79, 0.85), (930, 1080), (1330, 1560), (80, 96), (790, 980), (0.002, 0.02), 0.04),
    Tissue.WHITE: _Range((0.67, 0.72), (570, 690), (820, 980), (64, 76), (660, 790), (0.002, 0.012), 0.025),
    Tissue.DEEP_GREY: _Range((0.74, 0.81), (800, 960), (1080, 1320), (66, 86), (680, 840), (0.002, 0.02), 0.05),
    Tissue.VESSEL: _Range((0.20, 0.55), (1300, 1600), (1650, 1950), (40, 150), (1000, 2400), (0.6, 1.8), 0.15),
    Tissue.DURA: _Range((0.40, 0.60), (700, 1000), (900, 1250), (25, 50), (700, 1500), (0.10, 0.50), 0.12),
    Tissue.CHOROID: _Range((0.82, 0.92), (1300, 1700), (1700, 2200), (110, 220), (1300, 2200), (0.20, 0.70), 0.12),
    Tissue.MUCOSA: _Range((0.80, 0.92), (1100, 1500), (1300, 1800), (80, 170), (1100, 2100), (0.15, 0.60), 0.12),
    Tissue.VITREOUS: _Range((0.98, 1.00), (3500, 4200), (3700, 4400), (900, 1700), (2600, 3100), (0, 0), 0.01),
    Tissue.SPOT: _Range((0.76, 0.84), (800, 980), (1080, 1320), (98, 130), (830, 1080), (0, 0.012), 0.10),
    Tissue.ENHANCING: _Range((0.80, 0.88), (980, 1250), (1300, 1600), (128, 165), (860, 1190), (0.13, 0.60), 0.14),
    Tissue.NECROSIS: _Range((0.93, 0.98), (2700, 3300), (2900, 3500), (230, 360), (1850, 2750), (0, 0.02), 0.08),
    Tissue.NON_ENHANCING: _Range((0.81, 0.88), (1050, 1300), (1400, 1700), (132, 180), (1000, 1480), (0, 0.015), 0.08),
    Tissue.OEDEMA: _Range((0.82, 0.88), (1000, 1220), (1330, 1580), (126, 170), (1310, 1690), (0, 0.010), 0.06),
    Tissue.CAVITY: _Range((0.97, 1.00), (3000, 4200), (3300, 4300), (700, 1500), (2550, 3200), (0, 0.006), 0.02),
    Tissue.BLOOD: _Range((0.70, 0.82), (380, 620), (480, 800), (40, 80), (350, 620), (0, 0.012), 0.15),
}


def draw_tissues(generator: np.random.Generator) -> Tissues:
    """Draw tissue properties at 1.5 or 3 T. Half of the variation is common to all tissues, half is independent."""
    at_3 = generator.random() < 0.6

    def drawn(ranges: list[tuple[float, float]]) -> TissueValues:
        low, high = np.array(ranges).T
        share = 0.5 * generator.random() + 0.5 * generator.random(len(ranges))
        return np.asarray(low + share * (high - low))

    rows = [_RANGES[tissue] for tissue in Tissue]
    return Tissues(
        density=drawn([row.density for row in rows]),
        t1_ms=drawn([row.t1_at_3 if at_3 else row.t1_at_1_5 for row in rows]),
        t2_ms=drawn([row.t2 for row in rows]),
        adc=drawn([row.adc for row in rows]),
        agent_mm=drawn([row.agent for row in rows]),
        relaxivity=(float(generator.uniform(3.6, 5.2)), float(generator.uniform(4.5, 7.0))),
    )


def draw_appearance(generator: np.random.Generator) -> Appearance:
    """Draw all signals of a grown head and the artefact strengths of its scanner."""
    tissues = draw_tissues(generator)
    before, after = _draw_t1_weighted(generator, tissues)
    signals = {
        Role.T1: before,
        Role.T1CE: after,
        Role.T2: turbo_spin_echo(
            tissues, TurboTiming(generator.uniform(3000, 7000), 0, 130, generator.uniform(75, 115), 1)
        ),
        Role.FLAIR: turbo_spin_echo(tissues, _draw_flair(generator, tissues)),
    }
    for role in (Role.T1CE, Role.FLAIR):
        if generator.random() < 0.4:
            signals[role][[Tissue.FAT, Tissue.MARROW]] *= generator.uniform(0.05, 0.4)
    saturation = 1 - np.exp(-generator.uniform(3500, 8000) / tissues.t1_ms)
    planar = tissues.density * saturation * np.exp(-generator.uniform(55, 100) / tissues.t2_ms)
    planar[[Tissue.FAT, Tissue.MARROW]] *= generator.uniform(0.03, 0.2)
    signals[Role.DWI] = planar * np.exp(-B_VALUE_S_MM2 * 1e-6 * tissues.adc)
    levels = {role: _levels(signal / signal[Tissue.WHITE]) for role, signal in signals.items()}
    levels[Role.ADC] = _levels(tissues.adc)
    texture = np.array([_RANGES[tissue].texture for tissue in Tissue]) * generator.uniform(0.6, 1.5)
    return Appearance(levels, _levels(planar), _levels(texture), _draw_artefact_strengths(generator))


def _levels(values: TissueValues) -> Levels:
    return np.asarray(values, dtype=np.float32)


def _draw_t1_weighted(generator: np.random.Generator, tissues: Tissues) -> tuple[TissueValues, TissueValues]:
    """Return T1 signals before and after contrast: MPRAGE, or spoiled gradient echo in 3D or 2D."""
    draw, enhanced = generator.uniform, tissues.with_agent()
    kind = generator.random()
    if kind < 0.5:
        spacing, pulses = float(draw(5.5, 9)), int(generator.integers(130, 190))
        timing = PreparedTiming(
            inversion_ms=spacing * pulses / 2 + float(draw(120, 420)),
            recovery_ms=float(draw(300, 1000)),
            spacing_ms=spacing,
            pulses=pulses,
            angle=float(np.radians(draw(8, 12))),
            echo_ms=float(draw(2.2, 3.8)),
            efficiency=float(draw(0.92, 0.99)),
        )
        return prepared_gradient_echo(tissues, timing), prepared_gradient_echo(enhanced, timing)
    if kind < 0.75:
        repetition, angle = float(draw(7, 22)), float(np.radians(draw(18, 30)))
    else:
        repetition, angle = float(draw(180, 300)), float(np.radians(draw(65, 85)))
    echo = float(draw(2.2, 5))
    return gradient_echo(tissues, repetition, echo, angle), gradient_echo(enhanced, repetition, echo, angle)


def _draw_flair(generator: np.random.Generator, tissues: Tissues) -> TurboTiming:
    """Draw FLAIR timings: in 3D a long train and a short TR, in 2D the reverse; CSF is nulled more or less well."""
    draw = generator.uniform
    volumetric = generator.random() < 0.6
    repetition, train = (draw(5200, 7500), draw(400, 750)) if volumetric else (draw(8000, 11000), draw(80, 220))
    efficiency = float(draw(0.93, 0.99))
    null = nulling_inversion_ms(float(tissues.t1_ms[Tissue.CSF]), repetition, train, efficiency)
    return TurboTiming(
        repetition_ms=float(repetition),
        inversion_ms=null * float(draw(0.93, 1.01)),
        train_ms=float(train),
        echo_ms=float(draw(90, 130)),
        efficiency=efficiency,
    )


def _draw_artefact_strengths(generator: np.random.Generator) -> ArtefactStrengths:
    low = float(generator.uniform(0.01, 0.04))
    return ArtefactStrengths(
        noise=(low, low + 0.015),
        bias=float(generator.uniform(0.05, 0.2)),
        ghost=0.04 if generator.random() < 0.3 else 0.0,
        adc_noise=(20.0, 75.0),
        failed_fits=float(generator.uniform(0, 2e-3)),
    )
