"""A trained network is written as a package that verifies, or not at all."""

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from models.install import verify_package
from models.labels import PAPER_LABELS, Role
from models.network import NetworkSettings, build_network
from models.package import (
    NORMALISATION,
    IntendedUse,
    ModelPackage,
    OutputLabel,
    PackageBroken,
    Refinement,
    read_package,
)
from models.training.train.write_package import LOG_FILE, Provenance, model_toml, write_package
from models.weights import load_network

TINY = NetworkSettings(init_filters=8, blocks_down=(1, 1), blocks_up=(1,), space_to_depth=2)


def described(folder: Path, refinement: Refinement | None = None) -> ModelPackage:
    return ModelPackage(
        name="tiny",
        version="0.1",
        intended_use=IntendedUse.RESEARCH,
        summary='With "quotes", a \\ and\na second line.',
        channels=(Role.T2, Role.FLAIR, Role.T1CE),
        spacing_mm=2.0,
        normalisation=NORMALISATION,
        window=None,
        labels=tuple(OutputLabel(label.name, 0.4, refinement) for label in PAPER_LABELS),
        network=TINY,
        weights_sha256="",
        folder=folder,
    )


@pytest.mark.parametrize("refinement", [None, Refinement((Role.T1CE, Role.FLAIR), 1.5)])
def test_the_package_is_read_as_it_was_described(refinement: Refinement | None, tmp_path: Path) -> None:
    log = tmp_path / "metrics.csv"
    log.write_text("step,loss\n1,0.5\n")
    wanted = described(tmp_path / "package", refinement)
    network = build_network(TINY, 3, 3)
    written = write_package(wanted, network, Provenance((("command", "train"), ("steps", 3))), log)
    read = read_package(tmp_path / "package")
    assert read == written
    verify_package(read)
    for name in ("name", "version", "intended_use", "summary", "channels", "spacing_mm", "labels", "network"):
        assert getattr(read, name) == getattr(wanted, name), name
    assert (read.folder / LOG_FILE).read_text() == log.read_text()
    provenance = tomllib.loads((read.folder / "model.toml").read_text())["provenance"]
    assert provenance == {"command": "train", "steps": 3}
    state = network.state_dict()
    assert all(torch.equal(v, state[k].half().float()) for k, v in load_network(read).state_dict().items())


def test_a_network_that_does_not_verify_leaves_the_old_package_alone(
    tmp_path: Path, make_package: Callable[..., ModelPackage]
) -> None:
    old = make_package()
    before = {path.name: path.read_bytes() for path in old.folder.iterdir()}
    broken = build_network(old.network, 3, 3)
    next(broken.parameters()).data.view(-1)[0] = torch.inf
    with pytest.raises(PackageBroken, match="some weights are not finite"):
        write_package(old, broken, Provenance(()), None)
    assert {path.name: path.read_bytes() for path in old.folder.iterdir()} == before
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_toml_strings_are_escaped(tmp_path: Path) -> None:
    text = model_toml(described(tmp_path), Provenance((("note", 'say "\\n"'),)))
    assert tomllib.loads(text)["summary"] == described(tmp_path).summary
    assert tomllib.loads(text)["provenance"]["note"] == 'say "\\n"'


def test_the_same_weights_with_another_refinement_are_another_model(tmp_path: Path) -> None:
    network = build_network(TINY, 3, 3)
    ways = (None, Refinement((Role.FLAIR,), 1.5), Refinement((Role.FLAIR,), 1.0), Refinement((Role.T1CE,), 1.5))
    written = [
        write_package(described(tmp_path / str(number), way), network, Provenance(()), None)
        for number, way in enumerate(ways)
    ]
    assert len({package.weights_sha256 for package in written}) == len(ways)
    again = write_package(described(tmp_path / "again", ways[1]), network, Provenance(()), None)
    assert again.weights_sha256 == written[1].weights_sha256
