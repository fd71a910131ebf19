"""Signal of each tissue in each sequence, and the signal model of the families PAINTED and TEMPLATE.

The model applies spin-echo, inversion-recovery and diffusion signal equations to a table of tissue properties near 3 T.
The values are textbook orders of magnitude, varied widely for each head: the aim is variety, not fidelity.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.labels import Role
from models.training.synthetic.tissue import Tissue

Levels = NDArray[np.float32]
"""One value per `Tissue`, in its order."""

B_VALUE_S_MM2 = 1000.0
"""Diffusion weighting of the trace image."""


@dataclass(frozen=True, slots=True)
class ArtefactStrengths:
    """Strengths of the artefacts of one scanner. The defaults are those of the painted family."""

    noise: tuple[float, float] = (0.02, 0.045)
    """Range of the standard deviation of noise in weighted images; white matter is 1."""
    bias: float = 0.12
    """Standard deviation of the logarithm of the smooth bias field of weighted images."""
    ghost: float = 0.0
    """Largest strength, relative to the signal, of a ghost by motion half a field of view away along the rows."""
    adc_noise: tuple[float, float] = (25.0, 60.0)
    """Range of the standard deviation of ADC noise in white matter, 10^-6 mm2/s."""
    failed_fits: float = 5e-4
    """Share of random voxels whose ADC is 0."""


@dataclass(frozen=True, slots=True)
class Appearance:
    """The signals of all tissues of one head, and the artefacts of its scanner."""

    levels: Mapping[Role, Levels]
    """Signal of each tissue in each sequence; white matter is 1, except ADC, which is in 10^-6 mm2/s."""
    echo_planar: Levels
    """Signal of each tissue without diffusion weighting, which weights tissues in the ADC of a mixed voxel."""
    texture: Levels
    """Relative amplitude of the texture in each tissue."""
    artefacts: ArtefactStrengths = ArtefactStrengths()


@dataclass(frozen=True, slots=True)
class _Properties:
    density: float
    t1_ms: float
    t2_ms: float
    adc: tuple[float, float]
    """Range of the mean, 10^-6 mm2/s."""
    uptake_per_s: tuple[float, float]
    """Range of the increase of 1/T1 after contrast."""
    texture: float
    """Relative amplitude of the texture in the tissue."""


_TABLE: dict[Tissue, _Properties] = {
    Tissue.AIR: _Properties(0.0, 1000, 1, (0, 0), (0, 0), 0),
    Tissue.MUSCLE: _Properties(0.75, 1250, 40, (1000, 1600), (0.05, 0.3), 0.06),
    Tissue.FAT: _Properties(0.90, 380, 110, (30, 300), (0, 0.05), 0.05),
    Tissue.BONE: _Properties(0.06, 900, 8, (0, 600), (0, 0), 0.2),
    Tissue.MARROW: _Properties(0.65, 500, 80, (100, 600), (0, 0.2), 0.15),
    Tissue.CSF: _Properties(1.00, 4200, 1400, (2700, 3200), (0, 0.01), 0.01),
    Tissue.GREY: _Properties(0.82, 1450, 95, (780, 1000), (0.01, 0.06), 0.03),
    Tissue.WHITE: _Properties(0.70, 900, 70, (650, 800), (0.01, 0.04), 0.03),
    Tissue.DEEP_GREY: _Properties(0.78, 1200, 80, (690, 850), (0.01, 0.05), 0.04),
    Tissue.VESSEL: _Properties(0.35, 1900, 60, (1000, 2600), (1.5, 5.0), 0.1),
    Tissue.DURA: _Properties(0.50, 1000, 40, (800, 1600), (0.3, 1.8), 0.1),
    Tissue.CHOROID: _Properties(0.85, 1900, 160, (1400, 2300), (0.8, 2.5), 0.1),
    Tissue.MUCOSA: _Properties(0.85, 1500, 120, (1200, 2000), (0.4, 1.8), 0.1),
    Tissue.VITREOUS: _Properties(1.00, 4000, 1000, (2600, 3100), (0, 0), 0.01),
    Tissue.SPOT: _Properties(0.80, 1200, 110, (820, 1050), (0, 0.05), 0.08),
    Tissue.ENHANCING: _Properties(0.85, 1500, 120, (850, 1200), (0.5, 2.4), 0.16),
    Tissue.NECROSIS: _Properties(0.95, 3200, 380, (1800, 2800), (0, 0.08), 0.08),
    Tissue.NON_ENHANCING: _Properties(0.85, 1500, 140, (1000, 1500), (0, 0.08), 0.10),
    Tissue.OEDEMA: _Properties(0.85, 1450, 130, (1300, 1700), (0, 0.04), 0.08),
    Tissue.CAVITY: _Properties(1.00, 3800, 1100, (2500, 3200), (0, 0.02), 0.01),
    Tissue.BLOOD: _Properties(0.75, 600, 70, (350, 650), (0, 0.05), 0.15),
}

TEXTURE: Levels = np.array([_TABLE[tissue].texture for tissue in Tissue], dtype=np.float32)
"""Relative amplitude of the texture in each tissue."""


@dataclass(frozen=True, slots=True)
class Contrast:
    """Tissue properties and sequence timings of one head."""

    density: Levels
    t1_ms: Levels
    t2_ms: Levels
    adc: Levels
    """10^-6 mm2/s."""
    uptake_per_s: Levels
    t1_timing_ms: tuple[float, float]
    """TR and TE of T1 and T1CE."""
    t2_timing_ms: tuple[float, float]
    """TR and TE of T2."""
    flair_timing_ms: tuple[float, float, float]
    """TR, TE and TI; TI near the null of CSF."""
    diffusion_te_ms: float
    remaining_fat: tuple[float, float]
    """Share of the fat signal that fat suppression leaves in T1CE and FLAIR; 1 means no suppression."""


def draw_contrast(generator: np.random.Generator, spread: float) -> Contrast:
    """Draw tissue properties around the table (relative standard deviation `spread`, e.g. 0.06) and timings."""

    def jittered(values: list[float]) -> Levels:
        factors = np.exp(spread * generator.standard_normal(len(values)))
        return (np.array(values) * factors).astype(np.float32)

    rows = [_TABLE[tissue] for tissue in Tissue]
    adc_low, adc_high = np.array([row.adc for row in rows]).T
    uptake_low, uptake_high = np.array([row.uptake_per_s for row in rows]).T
    flair_tr = float(generator.uniform(7000, 11000))
    t1_ms = jittered([row.t1_ms for row in rows])
    csf_t1 = float(t1_ms[Tissue.CSF])
    # The TI that nulls a T1 at a given TR: TI = T1 ln(2 / (1 + exp(-TR / T1))).
    null = csf_t1 * float(np.log(2 / (1 + np.exp(-flair_tr / csf_t1))))
    return Contrast(
        density=jittered([row.density for row in rows]),
        t1_ms=t1_ms,
        t2_ms=jittered([row.t2_ms for row in rows]),
        adc=generator.uniform(adc_low, adc_high).astype(np.float32),
        uptake_per_s=generator.uniform(uptake_low, uptake_high).astype(np.float32),
        t1_timing_ms=(float(generator.uniform(380, 900)), float(generator.uniform(3, 14))),
        t2_timing_ms=(float(generator.uniform(3000, 6000)), float(generator.uniform(80, 110))),
        flair_timing_ms=(flair_tr, float(generator.uniform(85, 140)), null * float(generator.uniform(0.9, 1.06))),
        diffusion_te_ms=float(generator.uniform(60, 95)),
        remaining_fat=(
            float(generator.uniform(0.1, 0.35)) if generator.random() < 0.3 else 1.0,
            float(generator.uniform(0.1, 0.35)) if generator.random() < 0.5 else 1.0,
        ),
    )


def signal_levels(role: Role, contrast: Contrast, enhanced: bool = False) -> Levels:
    """Return the signal of each tissue in a sequence, white matter being 1; for ADC the ADC in 10^-6 mm2/s.

    `enhanced` is for a FLAIR that is scanned after contrast agent, as many are: what takes it up is brighter.
    """
    if role is Role.ADC:
        return contrast.adc
    signal = _raw_signal(role, contrast, enhanced)
    if role in (Role.T1CE, Role.FLAIR):
        left = contrast.remaining_fat[0 if role is Role.T1CE else 1]
        signal[[Tissue.FAT, Tissue.MARROW]] *= left
    return np.asarray(signal / signal[Tissue.WHITE], dtype=np.float32)


def _raw_signal(role: Role, contrast: Contrast, enhanced: bool) -> Levels:
    density, t1, t2 = contrast.density, contrast.t1_ms, contrast.t2_ms
    enhanced = role is Role.T1CE or (enhanced and role is Role.FLAIR)
    if enhanced or role is Role.T1:
        uptake = contrast.uptake_per_s if enhanced else np.zeros_like(t1)
        t1 = np.asarray(1 / (1 / t1 + uptake / 1000), dtype=np.float32)
    if role in (Role.T1, Role.T1CE):
        tr, te = contrast.t1_timing_ms
        return np.asarray(density * (1 - np.exp(-tr / t1)) * np.exp(-te / t2))
    if role is Role.T2:
        tr, te = contrast.t2_timing_ms
        return np.asarray(density * (1 - np.exp(-tr / t1)) * np.exp(-te / t2))
    if role is Role.FLAIR:
        tr, te, ti = contrast.flair_timing_ms
        recovery = np.abs(1 - 2 * np.exp(-ti / t1) + np.exp(-tr / t1))
        return np.asarray(density * recovery * np.exp(-te / t2))
    # Diffusion trace: the factor 1e-6 brings the ADC to mm2/s.
    return np.asarray(echo_planar_levels(contrast) * np.exp(-B_VALUE_S_MM2 * contrast.adc * 1e-6))


def echo_planar_levels(contrast: Contrast) -> Levels:
    """Return the signal of each tissue in the b = 0 image, with fat suppression."""
    signal = np.asarray(contrast.density * np.exp(-contrast.diffusion_te_ms / contrast.t2_ms), dtype=np.float32)
    signal[[Tissue.FAT, Tissue.MARROW]] *= 0.15
    return signal
