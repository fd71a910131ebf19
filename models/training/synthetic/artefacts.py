"""Apply random scanner artefacts: voxel size, noise, bias, ghosts, echo-planar distortion, failed ADC fits."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn import functional

from models.labels import Role
from pipeline.volume import Geometry

_IN_PLANE = (0.7, 0.22, 0.08)
"""Chances of voxels of 1, 2 and 3 mm in the plane of T1CE and FLAIR: most scans are fine, some are fast."""
_SINUS_MM = (0.0, -70.0, -30.0)
"""Air next to the frontal lobes (x, y, z), which distorts echo-planar images most."""


def draw_voxel(generator: np.random.Generator, role: Role, head_mm: float) -> tuple[int, int, int]:
    """Draw a voxel size as fine voxels along S, P, L: 1 to 3 mm, slices of up to 6 mm along any axis, mostly axial."""
    in_plane = int(
        generator.choice((2, 3), p=(0.85, 0.15)) if role is Role.ADC else generator.choice((1, 2, 3), p=_IN_PLANE)
    )
    thick = generator.random() < (0.3 if role is Role.T1CE else 0.75)
    through = max(in_plane, int(generator.integers(2, 7))) if thick else in_plane
    axis = 0 if role is Role.ADC else int(generator.choice(3, p=(0.7, 0.12, 0.18)))
    voxel = [in_plane] * 3
    voxel[axis] = through
    return tuple(max(1, round(edge / head_mm)) for edge in voxel)  # type: ignore[return-value]


def make_weighted_image(native: Tensor, generator: np.random.Generator) -> Tensor:
    """Make a magnitude image of signals (1, slices, rows, columns): coil bias, ghosts, Rician noise, display gamma."""
    strength = float(generator.uniform(0, 0.25))
    seen = native * (strength * smooth_field(generator, native.shape[1:], 4)).exp()
    if generator.random() < 0.25:
        seen = _add_ghost(seen, generator)
    sigma = float(np.exp(generator.uniform(np.log(0.008), np.log(0.09))))
    magnitude = torch.hypot(seen + sigma * _normal(generator, seen), sigma * _normal(generator, seen))
    return magnitude ** float(np.exp(generator.normal(0, 0.18)))


def _add_ghost(seen: Tensor, generator: np.random.Generator) -> Tensor:
    """Add a faint copy, shifted along the phase encoding direction as by motion and pulsation."""
    axis = int(generator.integers(2, 4))
    copies = int(generator.integers(2, 4))
    shift = seen.shape[axis] // copies + int(generator.integers(-3, 4))
    return seen + float(generator.uniform(0.01, 0.07)) * torch.roll(seen, shift, dims=axis)


def distort_echo_planar(native: Tensor, geometry: Geometry, generator: np.random.Generator) -> Tensor:
    """Distort fields (channels, slices, rows, columns) from front to back, like inhomogeneity in echo-planar scans.

    The shift is a few millimetres at most, mostly next to the sinuses. Half of the scans stay undistorted, like
    corrected ones.
    """
    if generator.random() < 0.5:
        return native
    shape = native.shape[1:]
    indices = torch.meshgrid(*(torch.arange(size, dtype=torch.float32) for size in shape), indexing="ij")
    matrix = torch.from_numpy(geometry.affine.astype(np.float32))
    world = [sum(matrix[row, axis] * indices[axis] for axis in range(3)) + matrix[row, 3] for row in range(3)]
    squares = [(value - middle) ** 2 for value, middle in zip(world, _SINUS_MM, strict=True)]
    bump = torch.exp(-torch.stack(squares).sum(0) / (2 * 22.0**2))
    shift_mm = generator.uniform(0.2, 1.2) * smooth_field(generator, shape, 5) + generator.uniform(-5, 5) * bump
    sizes = [max(1, size - 1) for size in shape]
    unit = [2 * index / size - 1 for index, size in zip(indices, sizes, strict=True)]
    rows = unit[1] + shift_mm * (2 / sizes[1] / geometry.spacing_mm[1])
    grid = torch.stack((unit[2], rows, unit[0]), dim=-1)[None]
    return functional.grid_sample(native[None], grid, padding_mode="border", align_corners=True)[0]


def make_adc_map(native: Tensor, white_signal: float, generator: np.random.Generator) -> Tensor:
    """Make an ADC map (1, slices, rows, columns) in 10^-6 mm2/s from (2, ...): ADC times b = 0 signal, and that signal.

    The noise is larger where the signal is small. Air is fitted noise, zero or missing (NaN), depending on the scanner.
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


def lower_resolution(channels: Tensor, generator: np.random.Generator) -> Tensor:
    """Return (channels, slices, rows, columns) with one channel as if scanned in thick slices or large voxels.

    Half of the time its voxels are averaged over 2 to 6 along one axis, else over 2 along each. The mean over them is
    interpolated back, as the node resamples a coarse series.
    """
    channel = int(generator.integers(len(channels)))
    factors = [2, 2, 2]
    if generator.random() < 0.5:
        factors = [1, 1, 1]
        factors[int(generator.integers(3))] = int(generator.integers(2, 7))
    size = channels.shape[1:]
    coarse = [max(1, edge // factor) for edge, factor in zip(size, factors, strict=True)]
    seen = functional.interpolate(channels[channel][None, None], size=coarse, mode="area")
    lower = channels.clone()
    lower[channel] = functional.interpolate(seen, size=size, mode="trilinear")[0, 0]
    return lower


def draw_misalignment(generator: np.random.Generator) -> NDArray[np.float64]:
    """Draw a residual misalignment: none, or up to 2 degrees and 3 mm, mostly below 2 mm."""
    matrix = np.eye(4)
    if generator.random() < 0.7:
        most_mm = 1.2 if generator.random() < 0.8 else 1.7
        matrix[:3, :3] = Rotation.from_euler("xyz", generator.uniform(-2, 2, size=3), degrees=True).as_matrix()
        matrix[:3, 3] = generator.uniform(-most_mm, most_mm, size=3)
    return matrix


def smooth_field(generator: np.random.Generator, shape: tuple[int, ...], knots: int) -> Tensor:
    """Return a smooth random field (slices, rows, columns) with variance of about 1 at its knots."""
    coarse = torch.from_numpy(generator.standard_normal((1, 1, knots, knots, knots), dtype=np.float32))
    return functional.interpolate(coarse, size=tuple(shape), mode="trilinear", align_corners=True)[0, 0]


def _normal(generator: np.random.Generator, like: Tensor) -> Tensor:
    return torch.from_numpy(generator.standard_normal(tuple(like.shape), dtype=np.float32))
