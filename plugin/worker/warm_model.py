"""A model package kept ready in memory, on whichever device is asked for."""

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
    """A verified package and its network, moved to a device at most once each."""

    def __init__(self, package: ModelPackage, cpu_engine: str = "torch") -> None:
        """Load and check the weights; `cpu_engine` is "torch" or "openvino". Raises ModelUnusable."""
        names = {label.name for label in LABELS}
        given = {label.name for label in package.labels}
        if given != names:
            raise ModelUnusable(
                f"Model {package.name} gives the labels {', '.join(sorted(given))}; the node serves models with "
                f"{', '.join(sorted(names))}. Fine-tune it first."
            )
        try:
            self._module = load_network(package)
        except PackageBroken as exc:
            raise ModelUnusable(str(exc)) from exc
        self.package = package
        self.cpu_engine = cpu_engine
        self._networks: dict[torch.device, Network] = {}
        if cpu_engine == "openvino":
            self._networks[torch.device("cpu")] = self._by_openvino()

    @property
    def identity(self) -> ModelIdentity:
        """Which model it is, for reports and objects."""
        package = self.package
        return ModelIdentity(package.name, package.version, package.weights_sha256, package.intended_use)

    @property
    def label_order(self) -> tuple[int, ...]:
        """For each of `models.labels.LABELS`, the network's output channel."""
        names = [label.name for label in self.package.labels]
        return tuple(names.index(label.name) for label in LABELS)

    @property
    def thresholds(self) -> tuple[float, ...]:
        """In the order of `models.labels.LABELS`."""
        return tuple(self.package.labels[channel].threshold for channel in self.label_order)

    def on(self, device: torch.device) -> Network:
        """The network on `device`."""
        if device not in self._networks:
            self._networks[device] = copy.deepcopy(self._module).to(device)
        return self._networks[device]

    def _by_openvino(self) -> Network:
        try:
            return openvino_network(self._module, len(self.package.channels), self.package.network.stride)
        except OpenVinoMissing as exc:
            raise ModelUnusable(str(exc)) from exc


def warm_model(name: str, installed: Path | None, cpu_engine: str = "torch") -> WarmModel:
    """The package called `name`, ready to run. Raises ModelUnusable."""
    return WarmModel(served_package(name, installed), cpu_engine)
