"""What training on synthetic heads goes on from: a checkpoint, or a model package of which no checkpoint is left."""

import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.package import PackageBroken, read_package
from models.training.train.net2net import NotNarrower, widen_checkpoint
from models.training.train.write_package import LOG_FILE
from models.weights import load_network

WIDENED = "widened.ckpt"


class CheckpointDoesNotFit(ValueError):
    """It cannot be read, is of another network, or is a package that did not learn from synthetic heads."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One that fits the network at hand."""

    path: Path | None
    """None for a package: it holds no state of the optimiser, which begins anew."""
    state: dict[str, Any]
    """Of the learner."""
    steps: int
    """Taken by all runs before."""
    commands: tuple[str, ...]
    steps_of_package: int = 0
    """Those of them that a package brought, and that Lightning does not count."""


def open_checkpoint(path: Path, learner: nn.Module, work: Path, seed: int) -> Checkpoint:
    """What `path` holds: a checkpoint, or a folder with a model package, whose log then begins that of `work`.

    A checkpoint of a narrower network is widened, and then lies in `work`. Raises CheckpointDoesNotFit.
    """
    if path.is_dir():
        return _open_package(path, learner, work)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        state, before = content["state_dict"], int(content.get("steps_of_package", 0))
        steps = before + int(content["global_step"])
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
    commands = tuple(str(line) for line in content.get("commands", ()))
    return Checkpoint(path, content["state_dict"], steps, commands, before)


def _open_package(folder: Path, learner: nn.Module, work: Path) -> Checkpoint:
    try:
        weights = load_network(read_package(folder)).state_dict()
        provenance = tomllib.loads((folder / "model.toml").read_text(encoding="utf-8"))["provenance"]
        steps, command = int(provenance["steps"]), str(provenance["command"])
    except PackageBroken as exc:
        raise CheckpointDoesNotFit(str(exc).removesuffix(".")) from exc
    except (KeyError, ValueError) as exc:
        raise CheckpointDoesNotFit(f"{folder} does not say how many steps it was trained on synthetic heads") from exc
    state = learner.state_dict()
    for name in state:
        key = name.removeprefix("mean_network.module.").removeprefix("network.")
        if key in weights and weights[key].shape == state[name].shape:
            state[name] = weights[key]
        elif not key.startswith("mean_network."):
            raise CheckpointDoesNotFit(f"{folder} is of another network, first at {key}; see --init-filters")
    if (folder / LOG_FILE).is_file():
        begun = work / "log" / "package"
        begun.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / LOG_FILE, begun / "metrics.csv")
    return Checkpoint(None, state, steps, (command,), steps)
