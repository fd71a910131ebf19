"""The logit of a probability, which has an end here."""

import torch
from torch import Tensor

_LEAST = 1e-3
"""Probabilities below it and above 1 less it are as certain as can be; logits have no end."""


def logit(probability: Tensor) -> Tensor:
    """log(p / (1 - p)) of probabilities, cut to 0.001 and 0.999 before; any shape."""
    return torch.logit(probability, eps=_LEAST)
