"""Tell a network which of its channels a study has."""

from collections.abc import Sequence

import torch
from torch import Tensor

from models.labels import Role


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


def study_input(channels: Tensor, roles: Sequence[Role], wanted: Sequence[Role], presence: bool) -> Tensor:
    """Return the input of a network whose channels are `wanted`, from those that a study has.

    `channels` is (roles, slices, rows, columns), normalised. Without presence planes it is the input itself, of a study
    that has all that is wanted, in this order. Raises ValueError if it has not.
    """
    if not presence:
        if tuple(roles) != tuple(wanted):
            raise ValueError(f"the network needs {', '.join(wanted)}, and the study has {', '.join(roles)}")
        return channels
    present = tuple(role in roles for role in wanted)
    filled = channels.new_zeros((len(wanted), *channels.shape[1:]))
    for channel, role in zip(filled, wanted, strict=True):
        if role in roles:
            channel.copy_(channels[list(roles).index(role)])
    return network_input(filled, present)
