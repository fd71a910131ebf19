"""Tell a network which of its channels a study has."""

import torch
from torch import Tensor


def network_input(channels: Tensor, present: tuple[bool, ...]) -> Tensor:
    """Return the input of a network with presence planes, (2 * channels, slices, rows, columns).

    `channels` is (channels, slices, rows, columns), normalised; `present` says which of them the study has. Behind the
    channels comes a plane for each, 1 everywhere where the channel is there and 0 where it is not. A channel that is
    absent is 0, whatever it holds. That alone would not tell the network: 0 is also the median of a normalised image
    and the ADC of air. Node and training both make the input here.
    """
    if len(present) != len(channels):
        raise ValueError(f"{len(channels)} channels, but presence of {len(present)}")
    there = torch.tensor(present, dtype=torch.bool, device=channels.device)[:, None, None, None]
    zero = torch.zeros((), dtype=channels.dtype, device=channels.device)
    return torch.cat([torch.where(there, channels, zero), there.to(channels.dtype).expand_as(channels)])
