"""Scale channels as networks were trained on them."""

import torch
from torch import Tensor

from models.labels import Role

ADC_SCALE = 3500.0
"""The ADC, in 10^-6 mm2/s, that becomes 1: above free water at body temperature (about 3000)."""
_MAX_SAMPLES = 1_000_000
_CLIP = (-3.0, 6.0)


def otsu_threshold(values: Tensor) -> float:
    """Return Otsu's threshold of the finite values of a tensor (Otsu 1979, IEEE Trans. SMC 9:62), with 256 bins."""
    values = values[torch.isfinite(values)]
    if values.numel() == 0:
        return 0.0
    low, high = float(values.min()), float(_quantiles(values, (0.995,))[0])
    if high <= low:
        return low
    counts = torch.histc(values.clamp(max=high).float(), bins=256, min=low, max=high).double()
    centres = low + (torch.arange(256, device=counts.device, dtype=torch.float64) + 0.5) * (high - low) / 256
    below = counts.cumsum(0)
    above = below[-1] - below
    sum_below = (counts * centres).cumsum(0)
    mean_below = sum_below / below.clamp(min=1)
    mean_above = (sum_below[-1] - sum_below) / above.clamp(min=1)
    between = below * above * (mean_below - mean_above) ** 2
    # All empty bins between two clusters have the maximum; their middle is the farthest from both.
    return float(centres[between >= between.max() * (1 - 1e-9)].mean())


def head_mask(t1ce: Tensor) -> Tensor:
    """Return the mask of the head, bool, from T1CE voxels (slices, rows, columns), NaN outside.

    Half of Otsu's threshold separates air from tissue: it includes CSF and most bone, and excludes Rician noise.
    """
    return torch.isfinite(t1ce) & (t1ce > 0.5 * otsu_threshold(t1ce))


def normalise(channels: Tensor, roles: tuple[Role, ...]) -> Tensor:
    """Scale channels by the scheme "robust-head-1" (`models.package.NORMALISATION`).

    `channels` is (roles, slices, rows, columns), float, NaN for missing values; T1CE is among the roles. T1CE, FLAIR
    and other weighted images become (value - median) / (90th - 10th percentile), both inside the head, clipped to
    [-3, 6]: robust against enhancement, fat and a few hot voxels. ADC is quantitative, so its scale is fixed: 0 to 3500
    x 10^-6 mm2/s becomes 0 to 1. Missing values become 0. Returns the same shape, float32, on the same device.
    """
    head = head_mask(channels[roles.index(Role.T1CE)])
    scaled = [_scale(channel, role, head) for channel, role in zip(channels, roles, strict=True)]
    return torch.nan_to_num(torch.stack(scaled), nan=0.0).float()


def _scale(channel: Tensor, role: Role, head: Tensor) -> Tensor:
    if role is Role.ADC:
        return channel.clamp(0, ADC_SCALE) / ADC_SCALE
    inside = channel[head & torch.isfinite(channel)]
    if inside.numel() == 0:
        return torch.zeros_like(channel)
    p10, median, p90 = _quantiles(inside, (0.1, 0.5, 0.9))
    scaled: Tensor = (channel - median) / (p90 - p10).clamp(min=1e-6)
    return scaled.clamp(*_CLIP)


def _quantiles(values: Tensor, fractions: tuple[float, ...]) -> Tensor:
    # torch.quantile refuses more than 2^24 values; an even stride keeps it deterministic.
    step = max(1, values.numel() // _MAX_SAMPLES)
    return torch.quantile(values.flatten()[::step].float(), torch.tensor(fractions, device=values.device))
