"""Correct the network's answer by what this very scan looks like in and around a lesion. Knows no network, no labels.

A network knows what tumours look like on most scans; how bright this one is on this scan stands in the scan itself.
Where the network is sure, both sides of an outline show their brightness; where it is not, brightness decides.
It moves outlines only: what the network nowhere suspected to be a lesion becomes none.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit
from torch import Tensor
from torch.nn import functional

from models.labels import Role
from models.package import Refinement
from pipeline.boxes import box_around
from pipeline.logit import logit

_POSSIBLE = 0.02
"""Probability from which a voxel may belong to the label."""
_AROUND = 6
"""Voxels around these that show what the label is not."""
_TAKEN = 0.5
"""Probability from which a voxel is taken for the label."""
_SUSPECTED = 0.3
"""Probability of the network that a piece of the label needs in one of its voxels."""
_SUREST = 0.4
"""Share of the voxels taken for the label, the surest, that show how it looks: where a network takes in too much, the
gyri beside an oedema, it is less sure of them."""
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
    as the prior (as Van Leemput et al. 2001, IEEE TMI 20:677, with an atlas's): brightness is counted inside, in the
    surest voxels above all, and outside, weighted by probability; `weight` times the logarithm of the two densities'
    ratio is added to the logit; twice. Connected voxels of which the network suspected none keep its answer.
    Returns the same shape on the same device; counted on the CPU, where sums have one order.
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
    used = _near(probability > _POSSIBLE) & known
    if not used.any():
        return probability
    count = _BINS[len(seen)]
    shape = (count,) * len(seen)
    place = np.ravel_multi_index([_bins(channel[used].numpy(), count) for channel in seen], shape)
    prior = logit(probability[used]).double().numpy()
    corrected_logit = prior
    for _ in range(_ROUNDS):
        inside, outside = expit(corrected_logit - _surest_from(corrected_logit)), expit(-corrected_logit)
        corrected_logit = prior + weight * _evidence(place, inside, outside, shape)[place]
    corrected = probability.clone()
    corrected[used] = torch.sigmoid(torch.from_numpy(corrected_logit)).float()
    return torch.where(_unfounded(corrected, probability), probability, corrected)


def _near(possible: Tensor) -> Tensor:
    """Voxels within _AROUND of one of `possible` (slices, rows, columns), along each axis."""
    near = possible.float()[None, None]
    for axis in range(3):
        reach = [_AROUND if axis == other else 0 for other in range(3)]
        near = functional.max_pool3d(near, [2 * each + 1 for each in reach], stride=1, padding=reach)
    return near[0, 0] > 0


def _surest_from(logits: NDArray[np.float64]) -> float:
    """The logit above which the surest of the voxels taken for the label lie; 0 where none is taken for it."""
    taken = logits[logits > 0]
    return float(np.quantile(taken, 1 - _SUREST)) if taken.size else 0.0


def _unfounded(corrected: Tensor, probability: Tensor) -> Tensor:
    """Voxels of pieces of the corrected label of which the network suspected none; all (slices, rows, columns).

    Voxels that share a corner belong to one piece.
    """
    pieces, count = ndimage.label((corrected >= _TAKEN).numpy(), np.ones((3, 3, 3)))
    unfounded = np.ones(count + 1, bool)
    unfounded[0] = False  # no piece
    unfounded[pieces[(probability >= _SUSPECTED).numpy()]] = False
    return torch.from_numpy(unfounded[pieces])


def _bins(values: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    low, high = np.quantile(values, _RANGE)
    scaled = (values - low) / max(float(high - low), 1e-6) * count
    return np.asarray(np.clip(scaled, 0, count - 1), np.int64)


def _evidence(
    place: NDArray[np.int64], inside: NDArray[np.float64], outside: NDArray[np.float64], shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """For each bin, the logarithm of how much likelier its brightness is inside than outside; weights of voxels."""
    within, without = (_counted(place, weights, shape) for weights in (inside, outside))
    total = float(within.sum())
    around = without / max(float(without.sum()), 1e-6)
    lesion = (within + _DOUBT_VOXELS * around) / (total + _DOUBT_VOXELS)
    floor = _FLOOR / lesion.size
    ratio = np.log((lesion + floor) / (around + floor))
    return np.clip(ratio, -_MOST, _MOST)


def _counted(place: NDArray[np.int64], weights: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """The sum of weights in each bin, smoothed; one value a bin, as `place` counts them."""
    counts = np.bincount(place, weights, int(np.prod(shape))).reshape(shape)
    return np.asarray(ndimage.gaussian_filter(counts, _BLUR * shape[0], mode="nearest").ravel())
