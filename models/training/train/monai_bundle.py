"""Import the weights of a MONAI bundle (https://docs.monai.io/en/stable/mb_specification.html) as a model package.

Only SegResNet as `models.network` builds it is accepted. What a bundle does before and after its network is not
imported: a bundle standardises its channels differently from the node. An imported package therefore has to be
fine-tuned before it is used.
"""

import hashlib
import json
import pickle
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from models.labels import Role
from models.network import NetworkSettings, build_network
from models.package import NORMALISATION, IntendedUse, ModelPackage, OutputLabel, check_package
from models.training.train.write_package import Provenance, write_package

WEIGHTS, METADATA = Path("models") / "model.pt", Path("configs") / "metadata.json"

_WRAPPERS = ("model", "state_dict", "net", "network")
"""Keys under which training loops save a state dict."""
_KNOWN = {
    "_target_", "spatial_dims", "init_filters", "in_channels", "out_channels", "blocks_down", "blocks_up",
    "upsample_mode", "dropout_prob",
}  # fmt: skip
"""Arguments of SegResNet that the weights show, or that change nothing after training."""


class BundleRefused(ValueError):
    """The folder is not a MONAI bundle, or its network cannot be imported; the message is a sentence."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A SegResNet with its weights, axes turned to (slice, row, column)."""

    name: str
    version: str
    weights_sha256: str
    """SHA-256 of the file `models/model.pt`."""
    settings: NetworkSettings
    network: nn.Module
    channels: tuple[str, ...]
    """Names in the bundle, in order; empty if it does not say."""
    labels: tuple[str, ...]
    in_channels: int
    out_channels: int


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle without running any of its code. Raises BundleRefused."""
    metadata = _json(folder / METADATA)
    _check_configs(folder)
    content, state = _state(folder / WEIGHTS)
    settings, channels, labels = _shape(state, folder / WEIGHTS)
    network = build_network(settings, channels, labels)
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    wrong = sorted(
        n for n in expected.keys() | state.keys() if expected.get(n) != tuple(getattr(state.get(n), "shape", ()))
    )
    if wrong:
        raise BundleRefused(
            f"{folder / WEIGHTS} is no SegResNet of ours: {len(wrong)} weights differ, first {wrong[0]} "
            f"(ours {expected.get(wrong[0])}, the bundle's {tuple(getattr(state.get(wrong[0]), 'shape', ()))})."
        )
    network.load_state_dict({name: _turned(value) for name, value in state.items()})
    formats = metadata.get("network_data_format", {})
    return Bundle(
        name=str(metadata.get("name") or folder.name),
        version=str(metadata.get("version", "")),
        weights_sha256=hashlib.sha256(content).hexdigest(),
        settings=settings,
        network=network.eval(),
        channels=_names(formats, "inputs"),
        labels=_names(formats, "outputs"),
        in_channels=channels,
        out_channels=labels,
    )


def import_bundle(
    bundle: Bundle,
    channels: tuple[Role, ...],
    labels: tuple[str, ...],
    spacing_mm: float,
    called: tuple[str, str],
    out: Path,
) -> ModelPackage:
    """Write a bundle as the package `out`, its channels and labels named in the bundle's order.

    `called` holds the package's name and version. Raises BundleRefused if the numbers of names do not fit, and the
    errors of `write_package`.
    """
    for kind, given, wanted, says in (
        ("channel", channels, bundle.in_channels, bundle.channels),
        ("label", labels, bundle.out_channels, bundle.labels),
    ):
        if len(given) != wanted or len(set(given)) != wanted:
            theirs = f"; the bundle calls them {', '.join(says)}" if says else ""
            raise BundleRefused(f"Name {wanted} different {kind}s with --{kind}, in the bundle's order{theirs}.")
    package = ModelPackage(
        name=called[0],
        version=called[1],
        intended_use=IntendedUse.RESEARCH,
        summary=f"Imported from the MONAI bundle {bundle.name} {bundle.version}, to be fine-tuned and not to be used.",
        channels=channels,
        spacing_mm=spacing_mm,
        normalisation=NORMALISATION,
        window=None,
        labels=tuple(OutputLabel(label, 0.5) for label in labels),
        network=bundle.settings,
        weights_sha256="",
        folder=out,
    )
    check_package(package, out)
    facts = (
        ("imported_from", f"MONAI bundle {bundle.name} {bundle.version}"),
        ("model_pt_sha256", bundle.weights_sha256),
        ("channels_were", ", ".join(bundle.channels)),
        ("labels_were", ", ".join(bundle.labels)),
        ("axes", "kernels turned from (x, y, z) to (slice, row, column)"),
    )
    return write_package(package, bundle.network, Provenance(facts), None, _card(package, bundle))


def _card(package: ModelPackage, bundle: Bundle) -> str:
    return f"""# {package.name} {package.version}: for fine-tuning, not for patients

{package.summary}

Channels {", ".join(package.channels)} were {", ".join(bundle.channels) or "not named"}; labels \
{", ".join(label.name for label in package.labels)} were {", ".join(bundle.labels) or "not named"}. \
`models/model.pt` had sha256 `{bundle.weights_sha256}`.

The network learned on images that were standardised differently from the node's ({package.normalisation}). Fine-tune \
it before you use it: \
`glionode finetune DATASET OUT --from {package.name}`.

Nothing was measured. The bundle's own license and terms hold for these weights.
"""


def _json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise BundleRefused(f"{path} is missing: {path.parents[1]} is no MONAI bundle.") from exc
    except (OSError, ValueError) as exc:
        raise BundleRefused(f"{path} cannot be read: {exc}.") from exc
    if not isinstance(document, dict):
        raise BundleRefused(f"{path} is not what a MONAI bundle has there.")
    return document


def _check_configs(folder: Path) -> None:
    """Refuse what the weights do not show: another network with the same names, another norm or activation."""
    for path in sorted((folder / "configs").glob("*.json")):
        for definition in _networks(_json(path)):
            target = str(definition["_target_"]).rsplit(".", 1)[-1]
            if target != "SegResNet":
                raise BundleRefused(f"{path} describes a {target}; only SegResNet can be imported.")
            other = sorted(definition.keys() - _KNOWN)
            if other:
                raise BundleRefused(f"{path}: its SegResNet sets {', '.join(other)}, which ours does not have.")
            if definition.get("upsample_mode", "nontrainable") == "pixelshuffle":
                raise BundleRefused(f"{path}: upsample_mode pixelshuffle cannot be turned to our order of axes.")


def _networks(document: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every definition under a key that begins with "network" or "net"."""
    if isinstance(document, dict):
        for key, value in document.items():
            if isinstance(value, dict) and "_target_" in value and re.fullmatch(r"net(work)?(_def)?", key):
                yield value
            else:
                yield from _networks(value)


def _state(path: Path) -> tuple[bytes, dict[str, Tensor]]:
    try:
        content = path.read_bytes()
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as exc:
        raise BundleRefused(f"{path} is missing; download the bundle with its weights.") from exc
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as exc:
        raise BundleRefused(f"{path} is damaged, or holds more than weights and is not loaded for that.") from exc
    for key in _WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise BundleRefused(f"{path} holds no table of weights.")
    return content, {str(name).removeprefix("module."): value for name, value in loaded.items()}


def _shape(state: Mapping[str, Tensor], path: Path) -> tuple[NetworkSettings, int, int]:
    """Derive the network's shape and its numbers of channels and labels from the names and sizes of its weights."""
    first, last = state.get("convInit.conv.weight"), state.get("conv_final.2.conv.weight")
    down, up = _counts(state, "down_layers"), _counts(state, "up_layers")
    if first is None or last is None or first.ndim != 5 or not down or len(up) != len(down) - 1:
        raise BundleRefused(f"{path} is no three-dimensional SegResNet: its weights have other names.")
    mode: Literal["deconv", "nontrainable"] = "nontrainable"
    if any(name.startswith("up_samples.0.1.") for name in state):
        mode = "deconv"
    try:
        settings = NetworkSettings(int(first.shape[0]), down, up, mode)
    except ValueError as exc:
        raise BundleRefused(f"{path}: {exc}.") from exc
    return settings, int(first.shape[1]), int(last.shape[0])


def _counts(state: Mapping[str, Tensor], part: str) -> tuple[int, ...]:
    """Count the residual blocks in each level of a part."""
    levels: dict[int, set[int]] = {}
    for name in state:
        found = re.match(rf"{part}\.(\d+)\.(\d+)\.conv1\.", name)
        if found:
            levels.setdefault(int(found[1]), set()).add(int(found[2]))
    return tuple(len(levels[level]) for level in sorted(levels))


def _turned(value: Tensor) -> Tensor:
    """Turn a kernel for (x, y, z), the order in which MONAI loads NIfTI, to (slice, row, column)."""
    return value.permute(0, 1, 4, 3, 2).contiguous() if value.ndim == 5 else value


def _names(formats: Any, side: str) -> tuple[str, ...]:
    """Return `channel_def` of the first input or output, in order."""
    try:
        first = next(iter(formats[side].values()))
        return tuple(str(name) for _, name in sorted(first["channel_def"].items(), key=lambda item: int(item[0])))
    except (KeyError, AttributeError, TypeError, ValueError, StopIteration):
        return ()
