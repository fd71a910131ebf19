"""What training on synthetic heads goes on from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.training.widen import NotNarrower, widen_checkpoint

WIDENED = "widened.ckpt"


class CheckpointDoesNotFit(ValueError):
    """It cannot be read, or is of another network."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One that fits the network at hand."""

    path: Path
    state: dict[str, Any]
    """Of the learner."""
    steps: int
    commands: tuple[str, ...]


def open_checkpoint(path: Path, learner: nn.Module, work: Path, seed: int) -> Checkpoint:
    """What `path` holds; that of a narrower network is widened, and then lies in `work`.

    Raises CheckpointDoesNotFit.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        state, steps = content["state_dict"], int(content["global_step"])
    except Exception as exc:
        raise CheckpointDoesNotFit(f"{path} is no checkpoint of training on synthetic heads, or it is damaged") from exc
    shapes = {name: value.shape for name, value in learner.state_dict().items()}
    if {name: value.shape for name, value in state.items()} != shapes:
        try:
            content = widen_checkpoint(content, shapes, seed)
        except NotNarrower as exc:
            raise CheckpointDoesNotFit(
                f"{path} is of another network: --init-filters can be what it was begun with, or a multiple"
            ) from exc
        path = work / WIDENED
        torch.save(content, path)
    return Checkpoint(path, content["state_dict"], steps, tuple(str(line) for line in content.get("commands", ())))
