"""Training in real processes: two share a step, and one that is killed by the system is resumed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from models.package import read_package
from models.training.dataset.dataset import read_dataset
from models.training.dataset.manifest import Split
from models.training.train.batches import ProcessRank
from models.training.train.case_crops import CaseCrops, CropBatches
from models.training.train.checkpoints import CURVE_FILE
from models.training.train.learner import fresh_network
from models.training.train.loss import training_loss
from models.training.train.prepared_cases import View, prepared_cases
from models.training.train.settings import Cache, Preset, TrainSettings
from models.weights import load_network
from plugin.commands.app import app
from tests.support.paths import ROOT
from tests.support.toy_dataset import NAMES, OURS, SPACING_MM, toy_dataset

RATE = 0.003
TOY = ("--patch", "0", "--learning-rate", str(RATE), "--init-filters", "8")


@contextmanager
def glionode(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run the command line in a process; from a script, because Lightning starts the other processes like the first."""
    script = folder / "glionode.py"
    script.write_text("from plugin.commands.app import main\nmain()\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GLIONODE_")}
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen(
        [sys.executable, str(script), *arguments],
        cwd=folder,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # and those that it began


def test_two_processes_take_each_step_with_the_mean_of_their_gradients(tmp_path: Path) -> None:
    dataset = read_dataset(toy_dataset(tmp_path / "set", train=2, validation=1, edge=16))
    (tmp_path / "two.toml").write_text("devices = 2\nthreads = 1\n")
    with glionode(tmp_path, "pretrain", "set", "two", *TOY, "--epochs", "1", "--config", "two.toml") as process:
        said = process.stderr.read()
        assert process.wait() == 0, said
    assert said.count("epoch 1 of 1") == 1, "each process told of it"
    package = read_package(tmp_path / "two")
    # Two cases and two processes are one step, which is taken here by hand.
    settings = TrainSettings(Preset.PAPER, epochs=1, patch=0, learning_rate=RATE)
    view = View(OURS, NAMES, SPACING_MM)
    crops = CaseCrops(
        dataset.of(Split.TRAIN), prepared_cases(Cache.RAM, view, tmp_path), view, settings, package.network.stride
    )

    def after_a_step(ranks: tuple[int, ...]) -> torch.Tensor:
        torch.manual_seed(settings.seed)
        network = fresh_network(package.network, len(OURS), len(NAMES))
        optimiser = torch.optim.Adam(network.parameters(), lr=RATE)
        for rank in ranks:
            (batch,) = CropBatches(crops, (1.0, 1.0), settings, ProcessRank(rank, 2))(0, 0)
            loss, _ = training_loss(network(batch.channels), batch.truth, batch.known, NAMES, settings)
            (loss / len(ranks)).backward()
        optimiser.step()
        return torch.cat([weights.detach().flatten() for weights in network.parameters()])

    found = torch.cat([weights.detach().flatten() for weights in load_network(package).parameters()])
    # Adam's first step is of one size, whatever the gradient's; where that is next to nothing its sign is noise.
    assert ((found - after_a_step((0, 1))).abs() < RATE / 100).float().mean() > 0.999
    for rank in (0, 1):
        assert ((found - after_a_step((rank,))).abs() < RATE / 100).float().mean() < 0.9


def test_a_killed_run_is_resumed_to_the_same_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    toy_dataset(tmp_path / "set", train=2, validation=1, edge=16)
    order = ("pretrain", "set", "killed", *TOY, "--epochs", "8")
    with glionode(tmp_path, *order) as process:
        for line in process.stderr:
            if "epoch 2 of 8" in line:
                process.send_signal(signal.SIGKILL)
                break
        assert process.wait() == -signal.SIGKILL
    before = Path("runs/killed", CURVE_FILE).read_bytes()
    assert not Path("killed").exists()
    runner = CliRunner()
    resumed = runner.invoke(app, [*order, "--resume", "runs/killed"])
    assert resumed.exit_code == 0
    assert "epoch 1 of 8" not in resumed.stderr
    assert "epoch 8 of 8" in resumed.stderr
    assert runner.invoke(app, [name.replace("killed", "whole") for name in order]).exit_code == 0
    curve = Path("runs/killed", CURVE_FILE).read_bytes()
    assert curve == Path("runs/whole", CURVE_FILE).read_bytes()
    assert curve.startswith(before)
    assert 2 <= len(before.splitlines()) - 1 < 8
    assert read_package(Path("killed")).weights_sha256 == read_package(Path("whole")).weights_sha256
