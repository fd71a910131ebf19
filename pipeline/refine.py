"""Correct the network's answer by what this very scan looks like in and around a lesion. Knows no network, no labels.

A network knows what tumours look like on most scans; how bright this one is on this scan stands in the scan itself.
Where the network is sure, both sides of an outline show their brightness; where it is not, brightness decides.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional

from models.labels import Role
from models.package import Refinement
from pipeline.boxes import box_around
from pipeline.logit import logit

_POSSIBLE = 0.02
"""Probability from which a voxel may belong to the label."""
_AROUND = 3
"""Voxels around these that show what the label is not."""
_BINS = {1: 64, 2: 32}
"""Of each channel's brightness, by the number of channels."""
_BLUR = 0.04
"""Standard deviation, as a share of the range, by which histograms are smoothed."""
_RANGE = (0.002, 0.998)
"""Quantiles of the brightness between which the bins lie."""
_FLOOR = 0.0128
"""Voxels spread evenly over all bins, as a share of all: what was seen nowhere proves nothing."""
_DOUBT_VOXELS = 100.0
"""A lesion is taken to look like its surroundings as far as so many voxels go: a handful of voxels proves little."""
_MOST = 3.0
"""Largest logarithm of a ratio of likelihoods."""
_ROUNDS = 2


def refine(
    probabilities: Tensor, channels: Tensor, roles: Sequence[Role], refinements: Sequence[Refinement | None]
) -> Tensor:
    """Probabilities (labels, slices, rows, columns), each label's corrected as its refinement asks; None leaves it.

    `channels` is (roles, slices, rows, columns) on the same grid, in the units of the scans, NaN where a series has no
    value; neither such voxels nor failed fits (ADC 0) are corrected. Expectation-maximisation with the network's answer
    as the prior (as Van Leemput et al. 2001, IEEE TMI 20:677, with an atlas's): brightness is counted inside and
    outside, weighted by probability, and `weight` times the logarithm of the two densities' ratio is added to the
    logit; twice. Returns the same shape on the same device; counted on the CPU, where sums have one order.
    """
    refined = probabilities.clone()
    for label, wish in enumerate(refinements):
        box = wish and box_around(probabilities[label] > _POSSIBLE, _AROUND)
        if wish and box:
            inside = probabilities[(label, *box)]
            seen = torch.stack([channels[(roles.index(role), *box)] for role in wish.channels]).cpu()
            known = torch.stack([_known(each, role) for each, role in zip(seen, wish.channels, strict=True)]).all(0)
            refined[(label, *box)] = _refined(inside.cpu(), seen, known, wish.weight).to(refined.device)
    return refined


def _known(channel: Tensor, role: Role) -> Tensor:
    known = torch.isfinite(channel)
    return known & (channel != 0) if role is Role.ADC else known


def _refined(probability: Tensor, seen: Tensor, known: Tensor, weight: float) -> Tensor:
    """`probability` (slices, rows, columns), corrected by `seen` (channels, slices, rows, columns) where `known`."""
    possible = (probability > _POSSIBLE).float()[None, None]
    near = functional.max_pool3d(possible, 2 * _AROUND + 1, stride=1, padding=_AROUND)[0, 0] > 0
    used = near & known
    if not used.any():
        return probability
    count = _BINS[len(seen)]
    shape = (count,) * len(seen)
    place = np.ravel_multi_index([_bins(channel[used].numpy(), count) for channel in seen], shape)
    prior = logit(probability[used]).double().numpy()
    corrected_logit = prior
    for _ in range(_ROUNDS):
        inside = 1 / (1 + np.exp(-corrected_logit))
        corrected_logit = prior + weight * _evidence(place, inside, shape)[place]
    corrected = probability.clone()
    corrected[used] = torch.sigmoid(torch.from_numpy(corrected_logit)).float()
    return corrected


def _bins(values: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    low, high = np.quantile(values, _RANGE)
    scaled = (values - low) / max(float(high - low), 1e-6) * count
    return np.asarray(np.clip(scaled, 0, count - 1), np.int64)


def _evidence(place: NDArray[np.int64], inside: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """For each bin, the logarithm of how much likelier its brightness is inside than outside."""
    within, without = (_counted(place, weights, shape) for weights in (inside, 1 - inside))
    total = float(within.sum())
    outside = without / max(float(without.sum()), 1e-6)
    lesion = (within + _DOUBT_VOXELS * outside) / (total + _DOUBT_VOXELS)
    floor = _FLOOR / lesion.size
    ratio = np.log((lesion + floor) / (outside + floor))
    return np.clip(ratio, -_MOST, _MOST)


def _counted(place: NDArray[np.int64], weights: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """The sum of weights in each bin, smoothed; one value a bin, as `place` counts them."""
    counts = np.bincount(place, weights, int(np.prod(shape))).reshape(shape)
    return np.asarray(gaussian_filter(counts, _BLUR * shape[0], mode="nearest").ravel())
