"""A widened network computes what the narrow one did, and training makes its copies differ."""

import dataclasses
from pathlib import Path

import pytest
import torch

from models.labels import PAPER_LABELS
from models.network import NetworkSettings, build_network
from models.training.synthetic.augment import CHANNELS
from models.training.synthetic.samples import SampleSettings
from models.training.train.checkpoints import CHECKPOINT_FILE
from models.training.train.fit import TrainingProgress
from models.training.train.learner import Learner, fresh_network
from models.training.train.net2net import widen_checkpoint
from models.training.train.plan import Plan
from models.training.train.resume import WIDENED
from models.training.train.settings import SettingsContradict
from models.training.train.synthetic_heads import SyntheticHeads
from tests.support.toy_pretraining import TOY, TOY_NETWORK, pretrain_toy

LONGER = dataclasses.replace(TOY, epochs=5)
WIDE = dataclasses.replace(TOY_NETWORK, init_filters=16)

CHANNELS_SEEN = torch.randn(1, len(CHANNELS), 16, 8, 24, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint after three steps of the narrow network."""
    work = tmp_path_factory.mktemp("narrow")
    pretrain_toy(work, command="narrow")
    return work / "work" / CHECKPOINT_FILE


def fresh_learner(network: NetworkSettings) -> Learner:
    plan = Plan(SyntheticHeads(SampleSettings(), TOY), network, None, TOY)
    return Learner(plan, fresh_network(network, len(CHANNELS), len(PAPER_LABELS)))


def logits(state: dict[str, torch.Tensor], settings: NetworkSettings, prefix: str) -> torch.Tensor:
    network = build_network(settings, len(CHANNELS), len(PAPER_LABELS)).eval()
    network.load_state_dict({name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)})
    with torch.no_grad():
        return network(CHANNELS_SEEN)


def _doubled(volume: torch.Tensor) -> torch.Tensor:
    """Repeat every voxel to a block of eight."""
    for axis in (2, 3, 4):
        volume = volume.repeat_interleave(2, axis)
    return volume


@pytest.mark.parametrize("prefix", ["network.", "mean_network.module."])
@pytest.mark.parametrize("filters", [16, 24])
def test_the_wider_network_computes_the_same(checkpoint: Path, prefix: str, filters: int) -> None:
    wide = dataclasses.replace(TOY_NETWORK, init_filters=filters)
    shapes = {name: value.shape for name, value in fresh_learner(wide).state_dict().items()}
    old = torch.load(checkpoint, weights_only=True)
    new = widen_checkpoint(old, shapes, seed=1)
    expected = logits(old["state_dict"], TOY_NETWORK, prefix)
    torch.testing.assert_close(logits(new["state_dict"], wide, prefix), expected, rtol=1e-4, atol=1e-4)


def test_a_network_of_single_voxels_is_widened_to_one_of_blocks(checkpoint: Path) -> None:
    blocks = dataclasses.replace(TOY_NETWORK, space_to_depth=2)
    learner = fresh_learner(blocks)
    shapes = {name: value.shape for name, value in learner.state_dict().items()}
    learner.load_state_dict(widen_checkpoint(torch.load(checkpoint, weights_only=True), shapes, seed=1)["state_dict"])
    with torch.no_grad():
        answer = learner.network.eval()(_doubled(CHANNELS_SEEN))
    expected = logits(torch.load(checkpoint, weights_only=True)["state_dict"], TOY_NETWORK, "network.")
    torch.testing.assert_close(answer, _doubled(expected), rtol=1e-4, atol=1e-4)


def test_training_resumes_and_its_copies_diverge(checkpoint: Path, tmp_path: Path) -> None:
    reports: list[TrainingProgress] = []
    written = pretrain_toy(tmp_path, LONGER, WIDE, reports.append, checkpoint, "wide").package
    assert [report.epoch for report in reports if report.ended is not None] == [4, 5]
    assert written.network.init_filters == 16
    trained = torch.load(tmp_path / "work" / CHECKPOINT_FILE, weights_only=True)
    assert trained["commands"] == ["narrow", "wide"]
    began = torch.load(tmp_path / "work" / WIDENED, weights_only=True)["state_dict"][
        "network.down_layers.1.0.conv.weight"
    ]
    copies = trained["state_dict"]["network.down_layers.1.0.conv.weight"] - began
    assert not torch.allclose(copies[0::2], copies[1::2], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_a_file_that_is_no_checkpoint_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.ckpt"
    path.write_bytes(content)
    with pytest.raises(SettingsContradict, match="no checkpoint"):
        pretrain_toy(tmp_path, network=WIDE, resume=path)


def test_another_network_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    deeper = NetworkSettings(init_filters=16, blocks_down=(1, 2), blocks_up=(1,))
    with pytest.raises(SettingsContradict, match="another network"):
        pretrain_toy(tmp_path, network=deeper, resume=checkpoint)
