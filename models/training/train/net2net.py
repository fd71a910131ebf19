"""A wider network that begins where a narrower one stands (Net2Net: Chen, Goodfellow & Shlens 2016)."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor


class NotNarrower(ValueError):
    """The checkpoint does not belong to the same network with fewer feature maps."""


def widen_checkpoint(checkpoint: Mapping[str, Any], shapes: Mapping[str, torch.Size], seed: int) -> dict[str, Any]:
    """Return the checkpoint of a narrower SegResNet as one of the wider network whose state has `shapes`.

    The wider network computes the same. Each feature map is repeated, and the weights that read the copies are divided
    among them unevenly, at random: equal parts would stay equal for ever. Copies stay beside each other, so that group
    norm's groups keep their statistics. Adam's moments are scaled as the gradients are. Raises NotNarrower.
    """
    generator = torch.Generator().manual_seed(seed)
    old: Mapping[str, Tensor] = checkpoint["state_dict"]
    if old.keys() != shapes.keys() or not all(_is_multiple(old[name].shape, shapes[name]) for name in shapes):
        raise NotNarrower("the shapes are not multiples of the old ones")
    # The averaged weights are divided as those of the network are, or they would compute something else at first.
    state, names = dict(old), [name for name in old if name.startswith("network.")]
    for name in names:
        shares = _shares(old[name].shape, shapes[name], generator)
        for kind in {name, name.replace("network.", "mean_network.module.", 1)} & old.keys():
            state[kind] = _repeat(old[kind], shapes[kind]) * shares
    optimiser = dict(checkpoint["optimizer_states"][0])
    optimiser["state"] = {
        number: _widen_moments(moments, old[names[number]].shape, shapes[names[number]])
        for number, moments in optimiser["state"].items()
    }
    return {**checkpoint, "state_dict": state, "optimizer_states": [optimiser]}


def _is_multiple(old: Iterable[int], new: Iterable[int]) -> bool:
    old, new = tuple(old), tuple(new)
    return len(old) == len(new) and old[2:] == new[2:] and all(n % o == 0 for o, n in zip(old, new, strict=True))


def _repeat(values: Tensor, shape: torch.Size) -> Tensor:
    for axis in range(min(2, values.dim())):  # outputs, inputs
        values = values.repeat_interleave(shape[axis] // values.shape[axis], dim=axis)
    return values


def _shares(old: torch.Size, new: torch.Size, generator: torch.Generator) -> Tensor:
    """Draw the part of the old weight that each copy of an input gets: (outputs, inputs, 1, ...), summing to 1."""
    if len(old) < 2:
        return torch.ones(new)
    copies = new[1] // old[1]
    parts = torch.empty(new[0], old[1], copies).uniform_(0.5, 1.5, generator=generator)
    return (parts / parts.sum(-1, keepdim=True)).reshape(new[0], new[1], *(1 for _ in new[2:]))


def _widen_moments(moments: Mapping[str, Tensor], old: torch.Size, new: torch.Size) -> dict[str, Tensor]:
    # The gradient of a feature map is divided among its copies, on average evenly.
    copies = new[0] // old[0]
    scale = {"exp_avg": 1 / copies, "exp_avg_sq": 1 / copies**2}
    return {name: _repeat(value, new) * scale[name] if name in scale else value for name, value in moments.items()}
