"""Choose each label's threshold on synthetic heads of their own: neither trained on nor ever reported."""

from dataclasses import replace

import numpy as np
from torch import nn

from models.labels import LABELS
from models.package import ModelPackage
from models.training.evaluation.segment_head import head_probabilities
from models.training.synthetic.families import LEARNED_FROM
from models.training.synthetic.head import synthesise
from models.training.synthetic.tumour import Variant
from pipeline.measure import dice
from pipeline.restore import restore

FIRST_TUNING_SEED = 3_000_000
"""Above the seeds of training and away from those of evaluation."""
CANDIDATES = tuple(round(0.2 + 0.05 * step, 2) for step in range(15))
"""0.2 to 0.9."""
_AS_GOOD = 0.005
"""Means of Dice closer than this are equal: a few tiny lesions decide between them, at the cost of larger outlines."""
_VARIANTS = (Variant.UNIFOCAL, Variant.MULTIFOCAL, Variant.NON_ENHANCING, Variant.RESECTED, Variant.SMALL)


def tune_thresholds(package: ModelPackage, network: nn.Module, heads: int) -> ModelPackage:
    """`package` with, for each label, the threshold of the highest mean Dice over `heads` heads.

    Dice is taken on the T1CE grid after restoring, where the masks are read. Heads without a label do not vote on it.
    Of near equals, the one nearest 0.5 wins.
    """
    scores: dict[str, list[list[float]]] = {label.name: [] for label in LABELS}
    for number in range(heads):
        variant, family = _VARIANTS[number % len(_VARIANTS)], LEARNED_FROM[number % len(LEARNED_FROM)]
        head = synthesise(FIRST_TUNING_SEED + number, variant, family=family)
        probabilities, grid, target = head_probabilities(head, package, network)
        truths = head.truth(target)
        found = [restore(probabilities, grid, target, (candidate,) * len(LABELS)) for candidate in CANDIDATES]
        for channel, (label, truth) in enumerate(zip(LABELS, truths, strict=True)):
            if truth.any():
                scores[label.name].append([dice(masks[channel], truth) for masks in found])
    tuned = tuple(replace(each, threshold=best_threshold(scores[each.name], each.threshold)) for each in package.labels)
    return replace(package, labels=tuned)


def best_threshold(scores: list[list[float]], otherwise: float) -> float:
    """The candidate nearest 0.5 of those whose mean is within 0.005 of the best; `otherwise` without any case.

    `scores` holds, for each case, the Dice at each of CANDIDATES.
    """
    if not scores:
        return otherwise
    means = np.mean(scores, axis=0)
    best = [candidate for candidate, mean in zip(CANDIDATES, means, strict=True) if mean >= means.max() - _AS_GOOD]
    return min(best, key=lambda candidate: abs(candidate - 0.5))
