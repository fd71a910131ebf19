"""Train on fewer channels than a case has, so that the network learns to do without some of them.

Channels are left out after a case was normalised as a whole, as the node normalises what a study has.
"""

import numpy as np
import torch
from torch import Tensor

from pipeline.presence import network_input


def keep_channels(present: Tensor, share: float, generator: np.random.Generator) -> Tensor:
    """Draw which of the channels that are there the network sees: (channels), bool.

    In `share` of the draws some are left out: one of the choices that keep at least one channel and leave out at least
    one, all choices with equal chance. A case with one channel keeps it.
    """
    there = torch.nonzero(present).flatten()
    if len(there) < 2 or generator.random() >= share:
        return present
    choice = int(generator.integers(1, 2 ** len(there) - 1))
    kept = torch.zeros_like(present)
    kept[there] = torch.tensor([bool(choice >> bit & 1) for bit in range(len(there))])
    return kept


def as_network_input(channels: Tensor, present: Tensor, presence: bool) -> Tensor:
    """Return the input of a network for one case, with a presence plane for each channel if it takes them.

    `channels` is (channels, slices, rows, columns), normalised, `present` (channels), bool.
    """
    if not presence:
        return channels
    return network_input(channels, tuple(bool(each) for each in present))
