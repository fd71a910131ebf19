"""Correct the network's probabilities by the brightness of this scan in and around a lesion.

The network has learned what tumours look like on most scans; the scan itself shows how bright this one is. Voxels of
which the network is sure give the distributions of brightness inside and outside of a lesion, and these decide where
the network is unsure. Only outlines move: a lesion that the network did not suspect is not added.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from models.labels import Role
from models.package import Refinement
from pipeline.boxes import box_around
from pipeline.logit import logit

_POSSIBLE = 0.02
"""Probability from which a voxel may belong to the label."""
_AROUND = 6
"""Margin, in voxels, around these; it shows what the surroundings look like."""
_TAKEN = 0.5
"""Probability from which a voxel counts as the label."""
_SUSPECTED = 0.3
"""Probability of the network that a component of the label needs in at least one voxel."""
_SUREST = 0.4
"""Share of the label's voxels, the surest, that give its distribution: of what a network includes wrongly, such as gyri
beside an oedema, it is less sure."""
_BINS = {1: 64, 2: 32}
"""Bins of each channel's histogram, by the number of channels."""
_BLUR = 0.04
"""Standard deviation of the smoothing of histograms, as a share of their range."""
_RANGE = (0.002, 0.998)
"""Quantiles of the brightness at the ends of the histogram."""
_FLOOR = 0.0128
"""Uniform share that is added to all bins, so that a brightness that was never seen is no evidence."""
_DOUBT_VOXELS = 100.0
"""Voxels with the distribution of the surroundings that are added to a lesion: few voxels are little evidence."""
_MOST = 3.0
"""Bound of the log-likelihood ratio."""
_ITERATIONS = 2

Voxels = NDArray[np.float32]
"""(slices, rows, columns)."""
Mask = NDArray[np.bool_]
"""(slices, rows, columns)."""


def refine(
    probabilities: Tensor, channels: Tensor, roles: Sequence[Role], refinements: Sequence[Refinement | None]
) -> Tensor:
    """Return probabilities (labels, slices, rows, columns), each label's corrected by its refinement, if it has one.

    `channels` is (roles, slices, rows, columns) on the same grid, in the units of the scans, NaN outside of a series.
    Such voxels and failed fits (ADC 0) are not corrected. This is expectation-maximisation with the network's answer as
    the prior (as Van Leemput et al. 2001, IEEE TMI 20:677, with an atlas): histograms of brightness are made inside,
    above all of the surest voxels, and outside, weighted by probability, and `weight` times the logarithm of their
    ratio is added to the logit; twice. Components that the network did not suspect keep its answer. Where a study lacks
    one of a refinement's two channels, the other one serves alone; without either, the label keeps its answer.
    Returns the same shape on the same device; the computation is on the CPU, where sums have one order.
    """
    refined = probabilities.clone()
    for label, refinement in enumerate(refinements):
        used = [role for role in refinement.channels if role in roles] if refinement else []
        if refinement is None or not used:
            continue
        if box := box_around(probabilities[label] > _POSSIBLE, _AROUND):
            inside = probabilities[(label, *box)].cpu().numpy()
            seen = [channels[(roles.index(role), *box)].cpu().numpy() for role in used]
            known = np.logical_and.reduce([_known(*pair) for pair in zip(seen, used, strict=True)])
            corrected = _refine_label(inside, seen, known, refinement.weight)
            refined[(label, *box)] = torch.from_numpy(corrected).to(refined.device)
    return refined


def _known(channel: Voxels, role: Role) -> Mask:
    known = np.isfinite(channel)
    return known & (channel != 0) if role is Role.ADC else known


def _refine_label(probability: Voxels, seen: Sequence[Voxels], known: Mask, weight: float) -> Voxels:
    """Correct `probability` by the channels of `seen` where `known`."""
    used = _near(probability > _POSSIBLE) & known
    if not used.any():
        return probability
    count = _BINS[len(seen)]
    shape = (count,) * len(seen)
    place = _bins(seen[0][used], count)
    for channel in seen[1:]:
        place = place * count + _bins(channel[used], count)
    prior = logit(torch.from_numpy(probability[used])).double().numpy()
    corrected_logit = prior
    for _ in range(_ITERATIONS):
        inside, outside = _sigmoid(corrected_logit - _surest_logit(corrected_logit)), _sigmoid(-corrected_logit)
        corrected_logit = prior + weight * _evidence(place, inside, outside, shape)[place]
    corrected = probability.copy()
    corrected[used] = _sigmoid(corrected_logit)
    return np.where(_unfounded(corrected, probability), probability, corrected)


def _near(possible: Mask) -> Mask:
    """Return the voxels within _AROUND of one of `possible`, along each axis."""
    near = np.pad(possible, _AROUND)
    for _ in range(3):
        width = 1  # of the range of voxels of which one is enough; each step doubles it at most
        while width <= 2 * _AROUND:
            step = min(width, 2 * _AROUND + 1 - width)
            near = near[:-step] | near[step:]
            width += step
        near = np.moveaxis(near, 0, 2)
    return np.ascontiguousarray(near)


def _sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    values: NDArray[np.float64] = torch.sigmoid(torch.from_numpy(logits)).numpy()  # on all cores
    return values


def _surest_logit(logits: NDArray[np.float64]) -> float:
    """Return the logit from which voxels are among the surest of the label; 0 if no voxel is the label."""
    taken = logits[logits > 0]
    return float(np.quantile(taken, 1 - _SUREST)) if taken.size else 0.0


def _unfounded(corrected: Voxels, probability: Voxels) -> Mask:
    """Return the voxels of components of the corrected label that the network did not suspect; connectivity is 26."""
    components, count = ndimage.label(corrected >= _TAKEN, np.ones((3, 3, 3)))
    unfounded = np.ones(count + 1, bool)
    unfounded[0] = False  # the background
    unfounded[components[probability >= _SUSPECTED]] = False
    found: Mask = unfounded[components]
    return found


def _bins(values: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    low, high = np.quantile(values, _RANGE)
    scaled = (values - low) / max(float(high - low), 1e-6) * count
    return np.asarray(np.clip(scaled, 0, count - 1), np.int64)


def _evidence(
    place: NDArray[np.int64], inside: NDArray[np.float64], outside: NDArray[np.float64], shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """Return for each bin the log-likelihood ratio of inside to outside, from the weights of the voxels."""
    within, without = (_histogram(place, weights, shape) for weights in (inside, outside))
    total = float(within.sum())
    around = without / max(float(without.sum()), 1e-6)
    lesion = (within + _DOUBT_VOXELS * around) / (total + _DOUBT_VOXELS)
    floor = _FLOOR / lesion.size
    ratio = np.log((lesion + floor) / (around + floor))
    return np.clip(ratio, -_MOST, _MOST)


def _histogram(place: NDArray[np.int64], weights: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the sum of weights in each bin, smoothed; one value for each bin, in the order of `place`."""
    counts = np.bincount(place, weights, int(np.prod(shape))).reshape(shape)
    return np.asarray(ndimage.gaussian_filter(counts, _BLUR * shape[0], mode="nearest").ravel())
