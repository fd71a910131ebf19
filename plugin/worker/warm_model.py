"""Keep a model package loaded, with its network on each device that is used."""

import copy
from pathlib import Path

import torch

from models.labels import LABELS
from models.openvino_network import OpenVinoMissing, openvino_network
from models.package import ModelPackage, PackageBroken
from models.weights import load_network
from pipeline.errors import ModelUnusable
from pipeline.result import ModelIdentity
from pipeline.segment import Network
from plugin.sources.served_model import served_package


class WarmModel:
    """A verified package and its network, copied to each device at most once."""

    def __init__(self, package: ModelPackage, cpu_engine: str = "torch") -> None:
        """Load and verify the weights; `cpu_engine` is "torch" or "openvino". Raises ModelUnusable."""
        required = {label.name for label in LABELS}
        provided = {label.name for label in package.labels}
        if provided != required:
            raise ModelUnusable(
                f"Model {package.name} provides the labels {', '.join(sorted(provided))}; the node needs "
                f"{', '.join(sorted(required))}. Fine-tune it first."
            )
        try:
            self._module = load_network(package)
        except PackageBroken as exc:
            raise ModelUnusable(str(exc)) from exc
        self.package = package
        self.cpu_engine = cpu_engine
        self._networks: dict[torch.device, Network] = {}
        if cpu_engine == "openvino":
            self._networks[torch.device("cpu")] = self._openvino_network()

    @property
    def identity(self) -> ModelIdentity:
        """The model's identity, for reports and DICOM objects."""
        package = self.package
        return ModelIdentity(
            package.name, package.version, package.weights_sha256, package.intended_use, package.sha256
        )

    @property
    def label_order(self) -> tuple[int, ...]:
        """The network's output channel of each of `models.labels.LABELS`."""
        names = [label.name for label in self.package.labels]
        return tuple(names.index(label.name) for label in LABELS)

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The probability thresholds, in the order of `models.labels.LABELS`."""
        return tuple(self.package.labels[channel].threshold for channel in self.label_order)

    def on(self, device: torch.device) -> Network:
        """Return the network on `device`."""
        if device not in self._networks:
            self._networks[device] = copy.deepcopy(self._module).to(device)
        return self._networks[device]

    def _openvino_network(self) -> Network:
        try:
            return openvino_network(self._module, len(self.package.channels), self.package.network.stride)
        except OpenVinoMissing as exc:
            raise ModelUnusable(str(exc)) from exc


def warm_model(name: str, installed: Path | None, cpu_engine: str = "torch") -> WarmModel:
    """Load the package called `name`. Raises ModelUnusable."""
    return WarmModel(served_package(name, installed), cpu_engine)
