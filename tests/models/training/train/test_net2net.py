"""A widened network computes what the narrow one did, and its copies go ways of their own."""

import dataclasses
from pathlib import Path

import pytest
import torch

pytest.importorskip("lightning", reason="training needs the extra: pip install 'glionode[train]'")

from models.labels import LABELS
from models.network import NetworkSettings, build_network
from models.training.synthetic.augment import CHANNELS
from models.training.train.net2net import widen_checkpoint
from models.training.train.synthetic_checkpoint import WIDENED, CheckpointDoesNotFit
from models.training.train.synthetic_learner import Pretraining
from models.training.train.synthetic_pretrain import CHECKPOINT, Progress, describe_package, pretrain
from tests.support.toy_pretraining import TOY

WIDE = dataclasses.replace(TOY, steps=5, network=dataclasses.replace(TOY.network, init_filters=16))


CHANNELS_SEEN = torch.randn(1, len(CHANNELS), 16, 8, 24, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of three steps of the narrow network."""
    work = tmp_path_factory.mktemp("narrow")
    pretrain(describe_package(work / "package", "toy", "1.0.0", TOY), TOY, "narrow", work, lambda _: None)
    return work / CHECKPOINT


def logits(state: dict[str, torch.Tensor], settings: NetworkSettings, prefix: str) -> torch.Tensor:
    network = build_network(settings, len(CHANNELS), len(LABELS)).eval()
    network.load_state_dict({name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)})
    with torch.no_grad():
        return network(CHANNELS_SEEN)


def _doubled(volume: torch.Tensor) -> torch.Tensor:
    """Every voxel as a block of eight."""
    for axis in (2, 3, 4):
        volume = volume.repeat_interleave(2, axis)
    return volume


@pytest.mark.parametrize("prefix", ["network.", "mean_network.module."])
@pytest.mark.parametrize("filters", [16, 24])
def test_it_computes_the_same(checkpoint: Path, prefix: str, filters: int) -> None:
    wide = dataclasses.replace(TOY.network, init_filters=filters)
    shapes = {
        name: value.shape for name, value in Pretraining(dataclasses.replace(WIDE, network=wide)).state_dict().items()
    }
    old = torch.load(checkpoint, weights_only=True)
    new = widen_checkpoint(old, shapes, seed=1)
    expected = logits(old["state_dict"], TOY.network, prefix)
    torch.testing.assert_close(logits(new["state_dict"], wide, prefix), expected, rtol=1e-4, atol=1e-4)


def test_a_network_of_single_voxels_goes_on_as_one_of_blocks(checkpoint: Path) -> None:
    blocks = dataclasses.replace(TOY.network, space_to_depth=2)
    learner = Pretraining(dataclasses.replace(TOY, network=blocks))
    shapes = {name: value.shape for name, value in learner.state_dict().items()}
    learner.load_state_dict(widen_checkpoint(torch.load(checkpoint, weights_only=True), shapes, seed=1)["state_dict"])
    with torch.no_grad():
        answer = learner.network.eval()(_doubled(CHANNELS_SEEN))
    expected = logits(torch.load(checkpoint, weights_only=True)["state_dict"], TOY.network, "network.")
    torch.testing.assert_close(answer, _doubled(expected), rtol=1e-4, atol=1e-4)


def test_training_goes_on_and_tells_the_copies_apart(checkpoint: Path, tmp_path: Path) -> None:
    reports: list[Progress] = []
    package = describe_package(tmp_path / "package", "toy", "1.0.0", WIDE)
    written = pretrain(package, WIDE, "wide", tmp_path, reports.append, checkpoint)
    assert [report.step for report in reports] == [4, 5]
    assert written.network.init_filters == 16
    trained = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert trained["commands"] == ["narrow", "wide"]
    began = torch.load(tmp_path / WIDENED, weights_only=True)["state_dict"]["network.down_layers.1.0.conv.weight"]
    copies = trained["state_dict"]["network.down_layers.1.0.conv.weight"] - began
    assert not torch.allclose(copies[0::2], copies[1::2], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("content", [None, b"", b"not a checkpoint"])
def test_what_is_no_checkpoint_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / CHECKPOINT
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointDoesNotFit, match="no checkpoint"):
        pretrain(describe_package(tmp_path / "p", "toy", "1.0.0", WIDE), WIDE, "", tmp_path, lambda _: None, path)


def test_another_network_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    deeper = dataclasses.replace(WIDE, network=NetworkSettings(init_filters=16, blocks_down=(1, 2), blocks_up=(1,)))
    with pytest.raises(CheckpointDoesNotFit, match="another network"):
        pretrain(
            describe_package(tmp_path / "p", "toy", "1.0.0", deeper), deeper, "", tmp_path, lambda _: None, checkpoint
        )
