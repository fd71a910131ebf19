"""A synthetic head that can be scanned on any grid and knows its true labels. Used for phantoms and training.

Label rule. The labels overlap; the tissues of a lesion belong to them as follows:

    tissue           1 enhancing_tumour   2 adc_abnormality   3 flair_hyperintensity
    enhancing rim           yes                  yes                  yes
    necrosis                no                   yes                  no
    non-enhancing           no                   yes                  yes
    oedema                  no                   yes                  yes
    resection cavity        no                   no                   no
    blood                   no                   no                   no

1 is tissue that takes up contrast: rim and solid nodules. 2 is all non-CSF tissue of the lesion with an ADC above
normal white matter, including tumour of intermediate ADC (Wan et al. 2024, "Tumor Annotation"). 3 is all of the lesion
that is bright on FLAIR; fluid necrosis is suppressed like CSF and not part of 3. A cavity holds CSF and blood restricts
diffusion, so neither has a label; nor have white-matter spots, vessels, dura and plexus.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.labels import PAPER_LABELS, Role
from models.training.synthetic.anatomy import HEAD_CENTRE_MM, paint_head
from models.training.synthetic.artefacts import smooth_field
from models.training.synthetic.families import Family
from models.training.synthetic.fields import noise
from models.training.synthetic.growth_model.grow_head import grow_head
from models.training.synthetic.growth_model.scanner import draw_appearance
from models.training.synthetic.signal import (
    TEXTURE,
    Appearance,
    ArtefactStrengths,
    Contrast,
    draw_contrast,
    echo_planar_levels,
    signal_levels,
)
from models.training.synthetic.tissue import Tissue, TissueMap
from models.training.synthetic.tumour import Variant
from pipeline.volume import Geometry, Matrix, Volume

LABEL_TISSUES: tuple[tuple[Tissue, ...], ...] = (
    (Tissue.ENHANCING,),
    (Tissue.ENHANCING, Tissue.NECROSIS, Tissue.NON_ENHANCING, Tissue.OEDEMA),
    (Tissue.ENHANCING, Tissue.NON_ENHANCING, Tissue.OEDEMA),
)
"""The label rule, in the order of `models.labels.PAPER_LABELS`."""

assert len(LABEL_TISSUES) == len(PAPER_LABELS)

_SCANNER_UNITS = 400.0
"""Signal of white matter in weighted images, in the arbitrary units of a scanner."""
_SLICES_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class SyntheticHead:
    """A head with known tissues, determined by seed, variant, spacing and family."""

    seed: int
    variant: Variant
    geometry: Geometry
    """Axis-aligned LPS grid of `tissue`; the origin of world coordinates is the middle of the brain."""
    tissue: TissueMap
    """A `Tissue` per voxel, (slices, rows, columns). Below the lowest slice the neck continues unchanged."""
    appearance: Appearance
    family: Family = Family.PAINTED

    def acquire(self, role: Role, geometry: Geometry, motion: Matrix | None, noise_seed: int) -> Volume:
        """Return a scan of one sequence on any grid, averaged over the thickness of its slices.

        `motion` maps world coordinates of the head to those of the scanner; None for no motion. The noise is Rician in
        weighted images and Gaussian in ADC maps, in which failed fits (no signal, and a few random voxels) are 0. Noise
        and bias field follow from `noise_seed`. ADC is in 10^-6 mm2/s, other sequences are in arbitrary units.
        """
        generator = np.random.default_rng([self.seed, noise_seed, list(Role).index(role)])
        appearance, artefacts = self.appearance, self.appearance.artefacts
        texture = torch.from_numpy(self.texture_field())
        tissue = torch.from_numpy(self.tissue).int()
        levels = torch.from_numpy(appearance.levels[role])[tissue] * texture
        if role is Role.ADC:
            weight = torch.from_numpy(appearance.echo_planar)[tissue]
            sampled = self._sample(torch.stack((levels * weight, weight)), geometry, motion)
            pixels = _noisy_adc(sampled, float(appearance.echo_planar[Tissue.WHITE]), artefacts, generator)
        else:
            pixels = self._sample(levels[None], geometry, motion)[0].numpy()
            pixels = pixels * _bias(geometry, generator, artefacts.bias)
            sigma = float(generator.uniform(*artefacts.noise))
            if artefacts.ghost > 0:
                pixels = _add_ghost(pixels, float(generator.uniform(0, artefacts.ghost)))
            pixels = _rician(pixels, sigma, generator) * np.float32(_SCANNER_UNITS)
        return Volume(pixels=np.ascontiguousarray(pixels, dtype=np.float32), geometry=geometry)

    def truth(self, geometry: Geometry, motion: Matrix | None = None) -> NDArray[np.bool_]:
        """Return masks (labels, slices, rows, columns) in the order of PAPER_LABELS: voxels at least half of each."""
        masks = np.stack([np.isin(self.tissue, tissues) for tissues in LABEL_TISSUES])
        share = self._sample(torch.from_numpy(masks).float(), geometry, motion)
        return np.asarray(share.numpy() >= 0.5)

    def texture_field(self) -> NDArray[np.float32]:
        """Return the factor of every signal at each voxel of the head's grid, around 1: the texture of the tissues."""
        generator = np.random.default_rng([self.seed, 77])
        half = tuple(size // 2 for size in self.geometry.shape)
        pattern = noise(generator, half, 2 * self.geometry.spacing_mm[0], 14, band=0.5)
        fine = functional.interpolate(torch.from_numpy(pattern)[None, None], size=self.geometry.shape, mode="trilinear")
        texture = 1 + fine[0, 0].clamp(-2.5, 2.5).numpy() * self.appearance.texture[self.tissue]
        return np.asarray(texture, dtype=np.float32)

    def _sample(self, fields: Tensor, geometry: Geometry, motion: Matrix | None) -> Tensor:
        """Average fields (channels, slices, rows, columns) of the head's grid over the voxels of another grid."""
        to_head = np.linalg.inv(np.array(motion)) if motion is not None else np.eye(4)
        matrix = np.linalg.inv(self.geometry.affine) @ to_head @ geometry.affine
        offsets = _subsample_offsets(geometry, min(self.geometry.spacing_mm))
        parts = [
            _sample_slab(fields, matrix, geometry.shape, start, offsets)
            for start in range(0, geometry.shape[0], _SLICES_AT_ONCE)
        ]
        return torch.cat(parts, dim=1)


def synthesise(seed: int, variant: Variant, spacing_mm: float = 1.0, family: Family = Family.PAINTED) -> SyntheticHead:
    """Generate the head of a seed on an isotropic grid of `spacing_mm` that covers about 200 x 256 x 204 mm (S, P, L).

    Raises NilearnMissing if the family needs nilearn and it is not installed.
    """
    stream, name = [seed, list(Variant).index(variant)], f"glionode synthetic head {seed} {variant}"
    if family is not Family.PAINTED:
        stream.append(list(Family).index(family))
        name = f"glionode {family} synthetic head {seed} {variant}"
    generator = np.random.default_rng(stream)
    if family is Family.GROWN:
        tissue, appearance = grow_head(generator, variant, spacing_mm), draw_appearance(generator)
    else:
        tissue = paint_head(generator, variant, spacing_mm, template=family is Family.TEMPLATE)
        appearance = painted_appearance(draw_contrast(generator, spread=0.06))
    digest = hashlib.sha256(name.encode()).digest()
    geometry = Geometry.axial(
        shape=tissue.shape,
        spacing_mm=(spacing_mm, spacing_mm, spacing_mm),
        centre_mm=HEAD_CENTRE_MM,
        # PS3.5 B.2: a UID from a 128-bit number under 2.25.
        frame_of_reference_uid=f"2.25.{int.from_bytes(digest[:16], 'big')}",
    )
    return SyntheticHead(seed, variant, geometry, tissue, appearance, family)


def painted_appearance(contrast: Contrast) -> Appearance:
    """Return the signals of all sequences under the signal model of the families PAINTED and TEMPLATE."""
    levels = {role: signal_levels(role, contrast) for role in Role}
    return Appearance(levels, echo_planar_levels(contrast), TEXTURE)


def _subsample_offsets(geometry: Geometry, fine_mm: float) -> NDArray[np.float64]:
    """Return sample positions inside a voxel, in index units (samples, 3), dense enough to hit every fine voxel."""
    axes = []
    for step in geometry.spacing_mm:
        count = max(1, round(step / fine_mm))
        axes.append((np.arange(count) + 0.5) / count - 0.5)
    return np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1)


def _sample_slab(
    fields: Tensor, matrix: NDArray[np.float64], shape: tuple[int, int, int], start: int, offsets: NDArray[np.float64]
) -> Tensor:
    """Sample the fields as (channels, slab, rows, columns); `matrix` maps target indices to field indices."""
    stop = min(start + _SLICES_AT_ONCE, shape[0])
    sizes = torch.tensor(fields.shape[1:], dtype=torch.float64)
    # grid_sample wants (x, y, z) from -1 to 1 between the centres of the first and last voxel (align_corners).
    scaled = torch.from_numpy(matrix) * torch.cat((2 / (sizes - 1), torch.ones(1, dtype=torch.float64)))[:, None]
    k, i, j = (
        torch.arange(first, last, dtype=torch.float32) for first, last in ((start, stop), (0, shape[1]), (0, shape[2]))
    )
    total = torch.zeros((fields.shape[0], stop - start, shape[1], shape[2]))
    for offset in offsets:
        shifted = scaled[:3, 3] + scaled[:3, :3] @ torch.from_numpy(offset) - 1
        rows = []
        for axis in (2, 1, 0):
            a, b, c = (float(value) for value in scaled[axis, :3])
            rows.append(a * k[:, None, None] + b * i[None, :, None] + c * j[None, None, :] + float(shifted[axis]))
        grid = torch.stack(rows, dim=-1)[None]
        # The border is air on all sides except below, where border padding continues the neck.
        total += functional.grid_sample(fields[None], grid, padding_mode="border", align_corners=True)[0]
    return total / len(offsets)


def _rician(pixels: NDArray[np.float32], sigma: float, generator: np.random.Generator) -> NDArray[np.float32]:
    """Add complex Gaussian noise and take the magnitude (Gudbjartsson & Patz 1995)."""
    real = pixels + sigma * generator.standard_normal(pixels.shape, dtype=np.float32)
    imaginary = sigma * generator.standard_normal(pixels.shape, dtype=np.float32)
    return np.asarray(np.hypot(real, imaginary), dtype=np.float32)


def _bias(geometry: Geometry, generator: np.random.Generator, strength: float) -> NDArray[np.float32]:
    """Return a smooth factor around 1 for each voxel, with a standard deviation of about `strength`."""
    smooth = smooth_field(generator, geometry.shape, 4).numpy()
    return np.asarray(np.exp(1.4 * strength * smooth), dtype=np.float32)


def _add_ghost(pixels: NDArray[np.float32], strength: float) -> NDArray[np.float32]:
    """Add a faint copy, shifted by half a field of view along the rows, as by periodic motion."""
    return np.asarray(pixels + np.float32(strength) * np.roll(pixels, pixels.shape[1] // 2, axis=1))


def _noisy_adc(
    sampled: Tensor, white_signal: float, artefacts: ArtefactStrengths, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Return an ADC map from (2, slices, rows, columns), ADC times weight and weight; 0 for failed fits."""
    product, weight = sampled.numpy()
    adc = product / np.maximum(weight, 1e-6)
    noise_sd = generator.uniform(*artefacts.adc_noise) * np.clip(white_signal / np.maximum(weight, 1e-6), 0.3, 6)
    adc = adc + noise_sd * generator.standard_normal(adc.shape, dtype=np.float32)
    chance = generator.random(adc.shape, dtype=np.float32) < artefacts.failed_fits
    failed = (weight < 0.25 * white_signal) | (adc < 0) | chance
    return np.where(failed, 0, adc).astype(np.float32)
