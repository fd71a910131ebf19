"""Scale channels as networks were trained on them."""

import numpy as np
import torch
from torch import Tensor

from models.labels import Role
from pipeline.finite import all_finite
from pipeline.reference import reference_on_one_grid

ADC_SCALE = 3500.0
"""The ADC, in 10^-6 mm2/s, that becomes 1: above free water at body temperature (about 3000)."""
_MAX_SAMPLES = 1_000_000
_COUNTED_AT_ONCE = 2**24
"""torch counts in float32, which has no larger odd numbers."""
_CLIP = (-3.0, 6.0)


def otsu_threshold(values: Tensor) -> float:
    """Return Otsu's threshold of the finite values of a tensor (Otsu 1979, IEEE Trans. SMC 9:62), with 256 bins."""
    if not all_finite(values):
        values = _select(values, (values > -torch.inf) & (values < torch.inf))
    values = values.flatten()
    if values.numel() == 0:
        return 0.0
    low, high = float(values.min()), float(_quantiles(values, (0.995,))[0])
    if high <= low:
        return low
    counts = torch.zeros(256, dtype=torch.float64, device=values.device)
    for part in torch.split(values, _COUNTED_AT_ONCE):
        counts += torch.histc(part.float(), bins=256, min=low, max=high)
    counts[-1] += values.numel() - counts.sum()  # those above
    centres = low + (torch.arange(256, device=counts.device, dtype=torch.float64) + 0.5) * (high - low) / 256
    below = counts.cumsum(0)
    above = below[-1] - below
    sum_below = (counts * centres).cumsum(0)
    mean_below = sum_below / below.clamp(min=1)
    mean_above = (sum_below[-1] - sum_below) / above.clamp(min=1)
    between = below * above * (mean_below - mean_above) ** 2
    # All empty bins between two clusters have the maximum; their middle is the farthest from both.
    return float(centres[between >= between.max() * (1 - 1e-9)].mean())


def head_mask(reference: Tensor) -> Tensor:
    """Return the mask of the head, bool, from voxels of the reference series (slices, rows, columns), NaN outside.

    Half of Otsu's threshold separates air from tissue: it includes CSF and most bone, and excludes Rician noise.
    """
    return (reference > 0.5 * otsu_threshold(reference)) & (reference < torch.inf)


def normalise(channels: Tensor, roles: tuple[Role, ...]) -> Tensor:
    """Scale channels by the scheme "robust-head-1" (`models.package.NORMALISATION`).

    `channels` is (roles, slices, rows, columns) on one grid, float, NaN for missing values. T1CE, FLAIR and other
    weighted images become (value - median) / (90th - 10th percentile), both inside the head, clipped to [-3, 6]: robust
    against enhancement, fat and a few hot voxels. ADC is quantitative, so its scale is fixed: 0 to 3500 x 10^-6 mm2/s
    becomes 0 to 1. Missing values become 0. The head is that of T1CE, or without it that of the first of
    `pipeline.reference.reference_on_one_grid`. Returns the same shape, float32, on the same device.
    """
    head = head_mask(channels[roles.index(reference_on_one_grid(roles))])
    scaled = torch.empty(channels.shape, device=channels.device)
    for channel, role, out in zip(channels, roles, scaled, strict=True):
        _scale(channel, role, head, out)
    return scaled


def _scale(channel: Tensor, role: Role, head: Tensor, out: Tensor) -> None:
    """Write a channel to `out` as `normalise` scales it, in few passes: each takes as long as the memory does."""
    if role is Role.ADC:
        torch.clamp(channel, 0, ADC_SCALE, out=out).div_(ADC_SCALE).nan_to_num_(nan=0.0)
        return
    inside = _select(channel, head)
    inside = _select(inside, torch.isfinite(inside))
    if inside.numel() == 0:
        out.zero_()
        return
    p10, median, p90 = _quantiles(inside, (0.1, 0.5, 0.9))
    torch.sub(channel, median, out=out).div_((p90 - p10).clamp(min=1e-6)).clamp_(*_CLIP).nan_to_num_(nan=0.0)


def _select(values: Tensor, mask: Tensor) -> Tensor:
    """Return `values[mask]`; on a CPU by NumPy, which takes a twentieth of torch's time and less memory."""
    if values.device.type != "cpu":
        return values[mask]
    return torch.from_numpy(values.numpy()[mask.numpy()])


def _quantiles(values: Tensor, fractions: tuple[float, ...]) -> Tensor:
    """Return quantiles of values (n), as `torch.quantile` interpolates them, from about a million of the values.

    An even stride keeps it deterministic. NumPy sorts floats with vector instructions, in a tenth of torch's time.
    """
    step = max(1, values.numel() // _MAX_SAMPLES)
    ordered = torch.from_numpy(np.sort(values[::step].float().cpu().numpy()))
    ranks = torch.tensor(fractions) * (len(ordered) - 1)
    found = torch.lerp(ordered[ranks.long()], ordered[ranks.ceil().long()], ranks - ranks.floor())
    return found.to(values.device)
