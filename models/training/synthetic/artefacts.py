"""What scanners do to an image: voxels, noise, bias, ghosts, echo-planar stretch, failed fits. Knows no tissues."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn import functional

from models.labels import Role
from pipeline.volume import Geometry

_SINUS_MM = (0.0, -70.0, -30.0)
"""Air beside the frontal lobes (x, y, z), which bends the field of an echo-planar scan most."""


def draw_voxel(generator: np.random.Generator, role: Role, head_mm: float) -> tuple[int, int, int]:
    """Fine voxels averaged along S, P, L: slices of 1 to 6 mm along any axis, mostly axial."""
    in_plane = 2 if role is Role.ADC or generator.random() < 0.25 else 1
    thick = generator.random() < (0.3 if role is Role.T1CE else 0.75)
    through = int(generator.integers(2, 7)) if thick else in_plane
    axis = 0 if role is Role.ADC else int(generator.choice(3, p=(0.7, 0.12, 0.18)))
    voxel = [in_plane] * 3
    voxel[axis] = through
    return tuple(max(1, round(edge / head_mm)) for edge in voxel)  # type: ignore[return-value]


def weighted_image(native: Tensor, generator: np.random.Generator) -> Tensor:
    """A magnitude image from signals (1, slices, rows, columns): coil bias, ghosts, Rician noise, display gamma."""
    strength = float(generator.uniform(0, 0.25))
    seen = native * (strength * _smooth(generator, native.shape[1:], 4)).exp()
    if generator.random() < 0.25:
        seen = _ghosted(seen, generator)
    sigma = float(np.exp(generator.uniform(np.log(0.008), np.log(0.09))))
    magnitude = torch.hypot(seen + sigma * _normal(generator, seen), sigma * _normal(generator, seen))
    return magnitude ** float(np.exp(generator.normal(0, 0.18)))


def _ghosted(seen: Tensor, generator: np.random.Generator) -> Tensor:
    """With a faint copy of itself, shifted along the phase encoding as motion and pulsation do."""
    axis = int(generator.integers(2, 4))
    copies = int(generator.integers(2, 4))
    shift = seen.shape[axis] // copies + int(generator.integers(-3, 4))
    return seen + float(generator.uniform(0.01, 0.07)) * torch.roll(seen, shift, dims=axis)


def stretched(native: Tensor, geometry: Geometry, generator: np.random.Generator) -> Tensor:
    """Fields (channels, slices, rows, columns), bent front to back as an uneven magnetic field bends echo-planar scans.

    A few millimetres at most, most of them beside the sinuses; about half of the scans come unbent, as corrected ones.
    """
    if generator.random() < 0.5:
        return native
    shape = native.shape[1:]
    indices = torch.meshgrid(*(torch.arange(size, dtype=torch.float32) for size in shape), indexing="ij")
    matrix = torch.from_numpy(geometry.affine.astype(np.float32))
    world = [sum(matrix[row, axis] * indices[axis] for axis in range(3)) + matrix[row, 3] for row in range(3)]
    squares = [(value - middle) ** 2 for value, middle in zip(world, _SINUS_MM, strict=True)]
    bump = torch.exp(-torch.stack(squares).sum(0) / (2 * 22.0**2))
    shift_mm = generator.uniform(0.2, 1.2) * _smooth(generator, shape, 5) + generator.uniform(-5, 5) * bump
    sizes = [max(1, size - 1) for size in shape]
    unit = [2 * index / size - 1 for index, size in zip(indices, sizes, strict=True)]
    rows = unit[1] + shift_mm * (2 / sizes[1] / geometry.spacing_mm[1])
    grid = torch.stack((unit[2], rows, unit[0]), dim=-1)[None]
    return functional.grid_sample(native[None], grid, padding_mode="border", align_corners=True)[0]


def adc_map(native: Tensor, white_signal: float, generator: np.random.Generator) -> Tensor:
    """(1, slices, rows, columns) in 10^-6 mm2/s from (2, ...): ADC times b = 0 signal, and that signal.

    Noise grows where there is little signal. Some scanners leave fits of noise in the air, some write zero, and some
    readers mark them as missing (NaN).
    """
    product, weight = native
    adc = product / weight.clamp(min=1e-6)
    noise_sd = float(generator.uniform(15, 90)) * (white_signal / weight.clamp(min=1e-6)).clamp(0.3, 6)
    adc = adc + noise_sd * _normal(generator, adc)
    air = weight < float(generator.uniform(0.1, 0.5)) * white_signal
    if generator.random() < 0.35:
        adc = torch.where(air, float(generator.uniform(200, 3500)) * _normal(generator, adc).abs(), adc)
    else:
        adc = torch.where(air, torch.nan if generator.random() < 0.3 else 0.0, adc)
    holes = torch.from_numpy(generator.random(adc.shape, dtype=np.float32)) < float(generator.uniform(0, 0.004))
    adc = torch.where(holes, 0.0, adc.clamp(min=0))
    return (adc * float(np.exp(generator.normal(0, 0.03))))[None]


def draw_displacement(generator: np.random.Generator) -> NDArray[np.float64]:
    """What alignment leaves behind: up to 2 degrees and mostly below 2 mm, at most 3; or nothing."""
    matrix = np.eye(4)
    if generator.random() < 0.7:
        most_mm = 1.2 if generator.random() < 0.8 else 1.7
        matrix[:3, :3] = Rotation.from_euler("xyz", generator.uniform(-2, 2, size=3), degrees=True).as_matrix()
        matrix[:3, 3] = generator.uniform(-most_mm, most_mm, size=3)
    return matrix


def _smooth(generator: np.random.Generator, shape: tuple[int, ...], knots: int) -> Tensor:
    """A smooth random field over (slices, rows, columns), of variance about 1 at its knots."""
    coarse = torch.from_numpy(generator.standard_normal((1, 1, knots, knots, knots), dtype=np.float32))
    return functional.interpolate(coarse, size=tuple(shape), mode="trilinear", align_corners=True)[0, 0]


def _normal(generator: np.random.Generator, like: Tensor) -> Tensor:
    return torch.from_numpy(generator.standard_normal(tuple(like.shape), dtype=np.float32))
