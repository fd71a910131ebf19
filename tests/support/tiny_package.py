"""A small model package to read, damage and train."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from models.labels import PAPER_LABELS, Role
from models.network import NetworkSettings, build_network
from models.package import NORMALISATION, IntendedUse, ModelPackage, OutputLabel
from models.training.train.write_package import Provenance, write_package

TINY = NetworkSettings(init_filters=8, blocks_down=(1, 1), blocks_up=(1,))


def write_tiny_package(
    folder: Path, network: nn.Module, name: str = "tiny", version: str = "1.0.0", optional: tuple[Role, ...] = ()
) -> ModelPackage:
    """Write a package with a network of the shape `TINY` to the folder, which does not exist yet.

    With optional channels the network must have presence planes.
    """
    wanted = ModelPackage(
        name=name,
        version=version,
        intended_use=IntendedUse.DEMONSTRATION,
        summary="For tests.",
        channels=(Role.ADC, Role.FLAIR, Role.T1CE),
        spacing_mm=3.0,
        normalisation=NORMALISATION,
        window=None,
        labels=tuple(OutputLabel(label.name, 0.5) for label in PAPER_LABELS),
        network=TINY,
        weights_sha256="",
        folder=folder,
        optional=optional,
        presence=bool(optional),
    )
    return write_package(wanted, network, Provenance((("command", "a test"), ("seed", 0))), None)


@pytest.fixture
def make_package(tmp_path: Path) -> Callable[..., ModelPackage]:
    """Return a function that writes a package with random weights to a folder of its own."""

    def make(
        name: str = "tiny",
        version: str = "1.0.0",
        seed: int = 0,
        root: Path = tmp_path,
        optional: tuple[Role, ...] = (),
    ) -> ModelPackage:
        torch.manual_seed(seed)
        network = build_network(TINY, 6 if optional else 3, 3)
        return write_tiny_package(root / f"{name}-{version}-{seed}", network, name, version, optional)

    return make
