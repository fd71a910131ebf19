"""Resume training from a checkpoint, or from a model package whose checkpoint is lost."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from models.package import PackageBroken, read_package
from models.training.train.checkpoints import CHECKPOINT_FILE, Curve, read_curve
from models.training.train.learner import Learner
from models.training.train.net2net import NotNarrower, widen_checkpoint
from models.training.train.plan import Plan
from models.training.train.settings import DEFAULTS, SettingsContradict
from models.training.train.transfer import FIRST_CONVOLUTION, with_blind_planes
from models.training.train.write_package import LOG_FILE
from models.weights import load_network

WIDENED = "widened.ckpt"
_BEFORE = DEFAULTS | {"presence": False}
"""What a checkpoint says of values that are newer than it."""


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """What a run resumes: a state that fits its network, and the history before it."""

    state: dict[str, Any]
    """State of the learner."""
    steps: int
    """Steps of all runs that this one resumes."""
    commands: tuple[str, ...]
    path: Path | None = None
    """The checkpoint; None for a package, which holds no state of the optimiser."""
    callbacks: dict[str, Any] = field(default_factory=dict)
    """States of Lightning's callbacks in the checkpoint."""
    curve: Curve = field(default_factory=Curve)
    """Curve of a package; a checkpoint has its own in `callbacks`."""
    steps_of_package: int = 0
    """Steps of a package, which Lightning does not count."""


def is_package(path: Path) -> bool:
    """Return whether a folder holds a model package, and no run that could be resumed instead."""
    return (path / "model.toml").is_file() and not (path / CHECKPOINT_FILE).is_file()


def open_checkpoint(path: Path, plan: Plan, learner: Learner, work: Path) -> ResumePoint:
    """Read a checkpoint, or a folder with a model package.

    A checkpoint of a narrower network is widened, and the result is kept in `work`. Raises SettingsContradict if the
    file cannot be read, or belongs to another run.
    """
    if path.is_dir():
        return _open_package(path, plan, learner)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        signature, state = dict(content["plan"]), content["state_dict"]
        before = int(content.get("steps_of_package", 0))
        steps = before + int(content["global_step"])
    except Exception as exc:
        raise SettingsContradict(f"{path} is no checkpoint of a training run, or it is damaged") from exc
    _check_signature(path, signature, plan)
    shapes = {name: value.shape for name, value in learner.state_dict().items()}
    if {name: value.shape for name, value in state.items()} != shapes:
        try:
            content = widen_checkpoint(content, shapes, plan.settings.seed)
        except NotNarrower as exc:
            raise SettingsContradict(
                f"{path} is of another network: --init-filters has to be that of the run, or a multiple"
            ) from exc
        path = work / WIDENED
        torch.save(content, path)
    return ResumePoint(
        state=content["state_dict"],
        steps=steps,
        commands=tuple(map(str, content.get("commands", ()))),
        path=path,
        callbacks=dict(content["callbacks"]),
        steps_of_package=before,
    )


def _check_signature(path: Path, made_by: dict[str, str], plan: Plan) -> None:
    now = plan.signature()
    for name in now:
        before = made_by.get(name, str(_BEFORE.get(name)))
        if before != now[name]:
            raise SettingsContradict(
                f"{path} was made with {name} {before}, and this run says {now[name]}; "
                "resume it with its own settings, or start again without --resume"
            )


def _open_package(folder: Path, plan: Plan, learner: Learner) -> ResumePoint:
    try:
        package = read_package(folder)
        weights = load_network(package).state_dict()
        provenance = tomllib.loads((folder / "model.toml").read_text(encoding="utf-8"))["provenance"]
        trained_on, steps, command = provenance["trained_on"], int(provenance["steps"]), str(provenance["command"])
    except PackageBroken as exc:
        raise SettingsContradict(str(exc).removesuffix(".")) from exc
    except (KeyError, ValueError) as exc:
        raise SettingsContradict(f"{folder} does not say how many steps it was trained on synthetic heads") from exc
    if not plan.source.endless or trained_on != plan.source.identity:
        raise SettingsContradict(
            f"{folder} is a package trained on {trained_on}: only training on synthetic heads resumes a package, and "
            "only one that was trained so; `glionode finetune --from` trains any package on"
        )
    if plan.source.view.presence and not package.presence:
        weights[FIRST_CONVOLUTION] = with_blind_planes(weights[FIRST_CONVOLUTION])
    state = learner.state_dict()
    for name in state:
        key = name.removeprefix("mean_network.module.").removeprefix("network.")
        if key in weights and weights[key].shape == state[name].shape:
            state[name] = weights[key]
        elif not key.startswith("mean_network."):
            raise SettingsContradict(f"{folder} is of another network, first at {key}; see --init-filters")
    try:
        curve = read_curve(folder / LOG_FILE, plan.source.view.labels, plan.settings.steps_per_epoch)
    except FileNotFoundError:
        curve = Curve()
    except (OSError, KeyError, ValueError) as exc:
        raise SettingsContradict(f"{folder / LOG_FILE} is damaged; remove it to go on without it") from exc
    return ResumePoint(state, steps, (command,), curve=curve, steps_of_package=steps)
