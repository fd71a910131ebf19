"""Load and pack weights: float16 safetensors on disk, float32 in the network. Never reads a pickle."""

import hashlib

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import nn

from models.network import build_network
from models.package import ModelPackage, PackageBroken


def load_network(package: ModelPackage) -> nn.Module:
    """Return the package's network on the CPU, float32, in evaluation mode.

    Raises PackageBroken if the weights are damaged, do not fit the network that `model.toml` describes, or are not
    finite.
    """
    try:
        state = load_safetensors(package.weights_bytes)
    except SafetensorError as exc:
        raise PackageBroken(f"Model {package.name}: {package.weights_path} is no safetensors file ({exc}).") from exc
    with torch.device("meta"):  # random weights, which take longer than reading the file, would be thrown away
        network = build_network(package.network, package.network_channels, len(package.labels))
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if wrong:
        raise PackageBroken(
            f"Model {package.name}: {len(wrong)} weights do not fit the network of model.toml, first {wrong[0]} "
            f"(network {expected.get(wrong[0])}, file {found.get(wrong[0])})."
        )
    # Before the next line, which is slow on float16.
    state = {name: value.to(torch.float32, copy=True) for name, value in state.items()}
    if not all(bool(torch.isfinite(value).all()) for value in state.values()):
        raise PackageBroken(f"Model {package.name}: some weights are not finite.")
    network.load_state_dict(state, assign=True)
    return network.eval()


def pack_weights(network: nn.Module, used: str = "") -> tuple[bytes, str]:
    """Return the network's weights as float16 safetensors, and their sha256 in hexadecimal.

    `used` describes settings that change the results beside the weights. It is stored in the file's metadata, so that
    the same weights with other settings have another sha256, by which jobs, results and UIDs identify a model.
    """
    state = {name: value.detach().cpu().half().contiguous() for name, value in network.state_dict().items()}
    content = save_safetensors(state, metadata={"used": used} if used else None)
    return content, hashlib.sha256(content).hexdigest()
