"""Compute logits of probabilities, with bounds."""

import torch
from torch import Tensor

_EPSILON = 1e-3
"""Probabilities are clipped to this distance from 0 and 1, whose logits are infinite."""


def logit(probability: Tensor) -> Tensor:
    """Return log(p / (1 - p)) of probabilities of any shape, clipped to 0.001 and 0.999."""
    return torch.logit(probability, eps=_EPSILON)
