"""Keep a model package loaded, with its network on each device that is used."""

from pathlib import Path

import torch
from torch import nn

from models.inference import InferenceNetwork, prepare
from models.labels import LABELS
from models.package import ModelPackage, PackageBroken
from models.weights import load_network
from pipeline.errors import ModelUnusable
from pipeline.result import ModelIdentity
from plugin.sources.served_model import served_package


class WarmModel:
    """A verified package and its network, copied to each device at most once."""

    def __init__(self, package: ModelPackage, precision: str = "auto") -> None:
        """Load and verify the weights; for `precision` see `models.inference.prepare`. Raises ModelUnusable."""
        known = {label.name: label for label in LABELS}
        if unknown := sorted(label.name for label in package.labels if label.name not in known):
            raise ModelUnusable(
                f"Model {package.name} provides the labels {', '.join(unknown)}, for which the node has no code and no "
                f"defining series; it knows {', '.join(known)}. Name the outputs in model.toml by these."
            )
        self.package = package
        self._unused: nn.Module | None = self._load()
        self._precision = precision
        self._networks: dict[torch.device, InferenceNetwork] = {}

    @property
    def identity(self) -> ModelIdentity:
        """The model's identity, for reports and DICOM objects."""
        package = self.package
        return ModelIdentity(
            package.name, package.version, package.weights_sha256, package.intended_use, package.sha256
        )

    def on(self, device: torch.device) -> InferenceNetwork:
        """Return the network on `device`. Raises ModelUnusable if the weights were damaged since."""
        if device not in self._networks:
            module, self._unused = self._unused or self._load(), None
            self._networks[device] = prepare(module, self.package, device, self._precision)
        return self._networks[device]

    def _load(self) -> nn.Module:
        try:
            return load_network(self.package)
        except PackageBroken as exc:
            raise ModelUnusable(str(exc)) from exc

    def precision_on(self, device: torch.device) -> str:
        """Return ", bfloat16" for reports if the network runs in it on this type of device, else nothing."""
        used = (each for each in self._networks.values() if each.device.type == device.type)
        return ", bfloat16" if any(each.bfloat16 for each in used) else ""


def warm_model(name: str, installed: Path | None, precision: str = "auto") -> WarmModel:
    """Load the package called `name`. Raises ModelUnusable."""
    return WarmModel(served_package(name, installed), precision)
