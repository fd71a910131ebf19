"""Endless training samples: synthetic heads under ever new contrast, resolution, noise and fields of view.

Painting a head is slow and dressing it is fast, so a pool of heads grows slowly and each is dressed many times. A
sample is normalised as a whole volume, as at inference, before it is cropped.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn import functional
from torch.utils.data import IterableDataset, get_worker_info

from models.labels import Role
from models.training.signal import Contrast, draw_contrast, echo_planar_levels, signal_levels
from models.training.synthesis import LABEL_TISSUES, SyntheticHead, synthesise
from models.training.tissue import Tissue
from models.training.tumour import Variant
from pipeline.normalise import head_mask, normalise
from pipeline.volume import Geometry

CHANNELS = (Role.ADC, Role.FLAIR, Role.T1CE)
"""What the network sees, in this order."""
FIRST_HELD_OUT_SEED = 1_000_000
"""Heads of this seed and above are never trained on."""

_VARIANTS = {
    Variant.UNIFOCAL: 0.36,
    Variant.MULTIFOCAL: 0.22,
    Variant.SMALL: 0.24,
    Variant.NON_ENHANCING: 0.1,
    Variant.LESION_FREE: 0.08,
}
_FREE_SPREAD = np.full(len(Tissue), 0.12, np.float32)
"""Spread of the logarithm of a tissue's brightness where contrast is drawn freely: little inside the brain, so that
white and grey matter stay themselves; much outside, where fat suppression and coils do what they like."""
_FREE_SPREAD[[Tissue.FAT, Tissue.MARROW, Tissue.MUSCLE, Tissue.BONE, Tissue.MUCOSA, Tissue.DURA, Tissue.VESSEL]] = 0.5
_FREE_SPREAD[[Tissue.CSF, Tissue.VITREOUS]] = 0.35
_BRIGHTER = {
    Role.FLAIR: ([Tissue.OEDEMA, Tissue.NON_ENHANCING, Tissue.ENHANCING], 0.8),
    Role.T1CE: ([Tissue.ENHANCING], 0.5),
}
"""Tissues of a lesion that may shine more than physics says, and by how much at most (logarithm)."""
_POOL_CAPACITY = 240
_RECENT = 12
_NEW_HEAD_EVERY = 7
_BATCHES_PER_DRESSING = 2


@dataclass(frozen=True, slots=True)
class SampleSettings:
    """How training samples are cut."""

    spacing_mm: float = 1.5
    """Edge of the network's voxels."""
    patch: int = 96
    """Mean edge of a crop in voxels; edges vary by a third so that the network meets many fields of view."""
    batch: int = 1
    """Crops in a step."""
    whole: float = 0.6
    """Share of the steps that see whole heads, as inference does. Group norm's statistics are those of all that is in
    sight: a network that met crops alone finds lesions all over a whole head."""
    stride: int = 8
    """Crop edges are multiples of this."""
    head_spacing_mm: float = 1.0
    """Edge of the voxels that heads are painted on."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One dressed head on the network's grid."""

    channels: Tensor
    """(CHANNELS, slices, rows, columns) float32, normalised."""
    masks: Tensor
    """(labels, slices, rows, columns) bool, in the order of LABELS."""


def dress(head: SyntheticHead, generator: np.random.Generator, settings: SampleSettings) -> Sample:
    """The head as some scanner might have seen it: CHANNELS and truth on one axis-aligned grid."""
    contrast = draw_contrast(generator, spread=0.1)
    grid = _draw_grid(generator, settings.spacing_mm)
    tissue = torch.from_numpy(head.tissue).int()
    uneven = torch.from_numpy(head.unevenness())
    channels = [_scan(role, head, tissue, uneven, contrast, grid, generator) for role in CHANNELS]
    raw = torch.cat(channels)
    _drop_coverage(raw, generator)
    codes = torch.zeros((len(LABEL_TISSUES), len(Tissue)))
    for number, tissues in enumerate(LABEL_TISSUES):
        codes[number, list(tissues)] = 1
    share = resample_to(codes[:, tissue], head.geometry, grid, np.eye(4))
    box = _head_box(raw[CHANNELS.index(Role.T1CE)], generator, settings.spacing_mm)
    return Sample(channels=normalise(raw[box], CHANNELS), masks=share[box] >= 0.5)


def _head_box(t1ce: Tensor, generator: np.random.Generator, spacing_mm: float) -> tuple[slice, slice, slice, slice]:
    """The part of a (roles, slices, rows, columns) stack around the head, cut as `pipeline.align` cuts it."""
    mask = head_mask(t1ce)
    box = [slice(None)]
    for axis in range(3):
        counts = mask.sum(dim=[other for other in range(3) if other != axis])
        planes = torch.nonzero(counts > 0.01 * counts.max()).flatten()
        margin = round(float(generator.uniform(1, 9)) / spacing_mm)
        box.append(slice(max(0, int(planes[0]) - margin), int(planes[-1]) + 1 + margin))
    return (box[0], box[1], box[2], box[3])


def _draw_grid(generator: np.random.Generator, spacing_mm: float) -> Geometry:
    # A stretched grid is a bigger or smaller head; 150 to 240 mm of coverage with or without neck and air.
    scale = float(generator.uniform(0.9, 1.12))
    extent = generator.uniform((150, 200, 165), (225, 245, 235))
    shape = (round(extent[0] / spacing_mm), round(extent[1] / spacing_mm), round(extent[2] / spacing_mm))
    # What a tall field of view has beyond the head may lie above it, below it or both.
    down = max(0.0, extent[0] - 184) * generator.uniform(0, 0.5)
    x, y, z = generator.normal((0, -6, -3 - down), (4, 4, 6))
    centre = (float(x), float(y), float(z))
    return Geometry.axial(shape, (spacing_mm * scale,) * 3, centre, "")


def _draw_voxel(generator: np.random.Generator, role: Role, head_mm: float) -> tuple[int, int, int]:
    """Fine voxels averaged along S, P, L: thick slices along any axis, mostly axial; coarser in plane for ADC."""
    in_plane = 2 if role is Role.ADC or generator.random() < 0.25 else 1
    thick = generator.random() < (0.3 if role is Role.T1CE else 0.75)
    through = int(generator.integers(2, 7)) if thick else in_plane
    axis = 0 if role is Role.ADC else int(generator.choice(3, p=(0.7, 0.12, 0.18)))
    voxel = [in_plane] * 3
    voxel[axis] = through
    return tuple(max(1, round(edge / head_mm)) for edge in voxel)  # type: ignore[return-value]


def _scan(
    role: Role,
    head: SyntheticHead,
    tissue: Tensor,
    uneven: Tensor,
    contrast: Contrast,
    grid: Geometry,
    generator: np.random.Generator,
) -> Tensor:
    """(1, slices, rows, columns) of one sequence on the grid, with its own resolution, noise, bias and displacement."""
    voxel = _draw_voxel(generator, role, head.geometry.spacing_mm[0])
    levels = torch.from_numpy(signal_levels(role, contrast) * _draw_factors(role, generator))[tissue] * uneven
    if role is Role.ADC:
        weight = torch.from_numpy(echo_planar_levels(contrast))[tissue]
        native = functional.avg_pool3d(torch.stack((levels * weight, weight)), voxel)
        native = _adc_map(native, float(echo_planar_levels(contrast)[Tissue.WHITE]), generator)
    else:
        native = functional.avg_pool3d(levels[None], voxel)
        native = _weighted_image(native, generator)
    displacement = _draw_displacement(generator) if role is not Role.T1CE else np.eye(4)
    return resample_to(native, pooled(head.geometry, voxel), grid, displacement)


def _draw_factors(role: Role, generator: np.random.Generator) -> NDArray[np.float32]:
    """A factor for the brightness of each tissue: near 1 for half of the scans, drawn freely for the other half.

    A network that met only what the signal equations say takes the grey matter of a real FLAIR for oedema.
    """
    spread = np.full(len(Tissue), 0.05, np.float32)
    factors = np.ones(len(Tissue), np.float32)
    if role is not Role.ADC and generator.random() < 0.5:
        spread = _FREE_SPREAD
        tissues, most = _BRIGHTER[role]
        factors[tissues] = np.exp(generator.uniform(0, most))
    return np.asarray(factors * np.exp(spread * generator.standard_normal(len(Tissue))), np.float32)


def _weighted_image(native: Tensor, generator: np.random.Generator) -> Tensor:
    strength = float(generator.uniform(0, 0.25))
    coarse = torch.from_numpy(strength * generator.standard_normal((1, 1, 4, 4, 4), dtype=np.float32))
    bias = functional.interpolate(coarse, size=native.shape[1:], mode="trilinear", align_corners=True)[0].exp()
    sigma = float(np.exp(generator.uniform(np.log(0.008), np.log(0.09))))
    seen = native * bias
    magnitude = torch.hypot(seen + sigma * _normal(generator, seen), sigma * _normal(generator, seen))
    return magnitude ** float(np.exp(generator.normal(0, 0.18)))


def _adc_map(native: Tensor, white_signal: float, generator: np.random.Generator) -> Tensor:
    product, weight = native
    adc = product / weight.clamp(min=1e-6)
    noise_sd = float(generator.uniform(15, 90)) * (white_signal / weight.clamp(min=1e-6)).clamp(0.3, 6)
    adc = adc + noise_sd * _normal(generator, adc)
    air = weight < float(generator.uniform(0.1, 0.5)) * white_signal
    if generator.random() < 0.35:
        # Some scanners leave fits of noise in the air, some as zero, and some readers mark them as missing.
        adc = torch.where(air, float(generator.uniform(200, 3500)) * _normal(generator, adc).abs(), adc)
    else:
        adc = torch.where(air, torch.nan if generator.random() < 0.3 else 0.0, adc)
    holes = torch.from_numpy(generator.random(adc.shape, dtype=np.float32)) < float(generator.uniform(0, 0.004))
    adc = torch.where(holes, 0.0, adc.clamp(min=0))
    return (adc * float(np.exp(generator.normal(0, 0.03))))[None]


def _normal(generator: np.random.Generator, like: Tensor) -> Tensor:
    return torch.from_numpy(generator.standard_normal(tuple(like.shape), dtype=np.float32))


def _draw_displacement(generator: np.random.Generator) -> NDArray[np.float64]:
    """What alignment leaves behind: up to about 2 mm and 1.5 degrees, or nothing."""
    matrix = np.eye(4)
    if generator.random() < 0.7:
        matrix[:3, :3] = Rotation.from_euler("xyz", generator.uniform(-1.5, 1.5, size=3), degrees=True).as_matrix()
        matrix[:3, 3] = generator.uniform(-1.2, 1.2, size=3)
    return matrix


def _drop_coverage(raw: Tensor, generator: np.random.Generator) -> None:
    """Leave out the lowest and highest slices of single sequences, as scans of unequal coverage do; in place."""
    slices = raw.shape[1]
    for channel in raw[:2]:
        if generator.random() < 0.4:
            channel[: int(generator.uniform(0, 0.3) * slices)] = torch.nan
            channel[slices - int(generator.uniform(0, 0.05) * slices) :] = torch.nan


def pooled(geometry: Geometry, voxel: tuple[int, int, int]) -> Geometry:
    """The grid that average pooling by `voxel` leaves."""
    affine = geometry.affine @ np.diag([*voxel, 1.0])
    affine[:3, 3] = (geometry.affine @ np.array([*((edge - 1) / 2 for edge in voxel), 1.0]))[:3]
    shape = (geometry.shape[0] // voxel[0], geometry.shape[1] // voxel[1], geometry.shape[2] // voxel[2])
    return Geometry.from_affine(affine, shape, geometry.frame_of_reference_uid)


def resample_to(fields: Tensor, source: Geometry, target: Geometry, displacement: NDArray[np.float64]) -> Tensor:
    """Trilinear, (channels, slices, rows, columns) on `target`; `displacement` takes target to source world."""
    matrix = np.linalg.inv(source.affine) @ displacement @ target.affine
    sizes = np.array(source.shape)
    # To grid_sample's coordinates: (x, y, z) from -1 to 1 between the centres of the first and last voxel, and back
    # from affine_grid's own, which run from -1 to 1 likewise (align_corners).
    to_unit = np.diag([*(2 / (sizes - 1)), 1.0])
    to_unit[:3, 3] = -1
    half = (np.array(target.shape) - 1) / 2
    from_unit = np.diag([*half, 1.0])
    from_unit[:3, 3] = half
    unit = (to_unit @ matrix @ from_unit)[[2, 1, 0, 3]][:, [2, 1, 0, 3]]
    theta = torch.from_numpy(unit[None, :3].astype(np.float32))
    grid = functional.affine_grid(theta, [1, 1, *target.shape], align_corners=True)
    return functional.grid_sample(fields[None], grid, padding_mode="border", align_corners=True)[0]


def crop(sample: Sample, shape: tuple[int, int, int], generator: np.random.Generator) -> Sample:
    """A crop, zero-padded where the sample is smaller, flipped left to right half of the time.

    Two of three crops hold a lesion's voxel (if there is a lesion), its place in the crop being random.
    """
    size = sample.channels.shape[1:]
    places = torch.nonzero(sample.masks.any(0)) if generator.random() < 0.67 else torch.zeros((0, 3))
    start = []
    for axis in range(3):
        room = max(0, size[axis] - shape[axis])
        low, high = 0, room
        if len(places):
            at = int(places[int(generator.integers(len(places))), axis])
            low, high = min(room, max(0, at - shape[axis] + 8)), min(room, max(0, at - 8))
        start.append(int(generator.integers(low, max(low, high) + 1)))
    window = (slice(None), *(slice(begin, begin + length) for begin, length in zip(start, shape, strict=True)))
    channels, masks = sample.channels[window], sample.masks[window]
    missing = [length - have for length, have in zip(shape, channels.shape[1:], strict=True)]
    pad = [0, missing[2], 0, missing[1], 0, missing[0]]
    channels, masks = functional.pad(channels, pad), functional.pad(masks, pad)
    if generator.random() < 0.5:
        channels, masks = channels.flip(3), masks.flip(3)
    return Sample(channels.contiguous(), masks.contiguous())


class HeadSamples(IterableDataset[tuple[Tensor, Tensor]]):
    """Batches without end: (batch, CHANNELS, slices, rows, columns) and (batch, labels, ...) of 0 and 1, float32.

    The stream follows from the seed and the worker's number alone. Crops come from the few heads that were dressed
    last, the newest always among the first batch after it.
    """

    def __init__(self, seed: int, settings: SampleSettings) -> None:
        self._seed = seed
        self._settings = settings

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        worker = get_worker_info()
        number = worker.id if worker else 0
        if worker:
            torch.set_num_threads(1)
        generator = np.random.default_rng([self._seed, number])
        pool: list[SyntheticHead] = []
        recent: list[Sample] = []
        step = 0
        while True:
            if step % _NEW_HEAD_EVERY == 0 or len(pool) < 3:
                head = synthesise(
                    seed=int(generator.integers(FIRST_HELD_OUT_SEED)),
                    variant=Variant(generator.choice(list(_VARIANTS), p=list(_VARIANTS.values()))),
                    spacing_mm=self._settings.head_spacing_mm,
                )
                pool = [*pool[-_POOL_CAPACITY + 1 :], head]
            else:
                head = pool[int(generator.integers(len(pool)))]
            recent = [*recent[-_RECENT + 1 :], dress(head, generator, self._settings)]
            step += 1
            yield self._batch(recent, generator)
            for _ in range(_BATCHES_PER_DRESSING - 1):
                yield self._batch([*recent[:-1], recent[int(generator.integers(len(recent)))]], generator)

    def _batch(self, recent: list[Sample], generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        settings = self._settings
        chosen = [recent[-1], *(recent[int(generator.integers(len(recent)))] for _ in range(settings.batch - 1))]
        shape = self._draw_shape(chosen, generator)
        crops = [crop(sample, shape, generator) for sample in chosen]
        return torch.stack([c.channels for c in crops]), torch.stack([c.masks for c in crops]).float()

    def _draw_shape(self, chosen: list[Sample], generator: np.random.Generator) -> tuple[int, int, int]:
        settings = self._settings
        if generator.random() < settings.whole:
            largest = np.max([sample.masks.shape[1:] for sample in chosen], axis=0)
            edges = -(-largest // settings.stride)
            return (int(edges[0]) * settings.stride, int(edges[1]) * settings.stride, int(edges[2]) * settings.stride)
        edges = settings.patch * generator.uniform(0.75, 1.3, size=3)
        # Equal volume whatever the shape: steps take equal time.
        edges = np.maximum(1, np.round(edges * (settings.patch / np.prod(edges) ** (1 / 3)) / settings.stride))
        return (int(edges[0]) * settings.stride, int(edges[1]) * settings.stride, int(edges[2]) * settings.stride)
