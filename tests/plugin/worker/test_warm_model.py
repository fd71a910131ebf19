"""A model must provide the node's labels, in any order of the network's channels."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.network import NetworkSettings, build_network
from models.package import OutputLabel, read_package
from models.weights import pack_weights
from pipeline.errors import ModelUnusable
from plugin.worker.warm_model import WarmModel, warm_model

MODEL_TOML = """
format = 1
name = "tiny"
version = "1"
intended_use = "research"
[input]
channels = ["ADC", "FLAIR", "T1CE"]
spacing_mm = 2.0
normalisation = "robust-head-1"
[[output]]
label = "flair_hyperintensity"
threshold = 0.3
[[output]]
label = "enhancing_tumour"
threshold = 0.6
[[output]]
label = "adc_abnormality"
threshold = 0.5
[network]
init_filters = 8
blocks_down = [1, 1]
blocks_up = [1]
upsample_mode = "nontrainable"
[weights]
sha256 = "SHA"
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder of installed packages with one, called tiny, whose output channels are in another order."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    torch.manual_seed(0)
    settings = NetworkSettings(init_filters=8, blocks_down=(1, 1), blocks_up=(1,))
    weights, sha256 = pack_weights(build_network(settings, 3, 3))
    (folder / "weights.safetensors").write_bytes(weights)
    (folder / "model.toml").write_text(MODEL_TOML.replace("SHA", sha256))
    return tmp_path


def test_a_package_is_found_by_its_name(installed: Path) -> None:
    assert warm_model("tiny", installed).identity.name == "tiny"


def test_the_network_is_copied_to_a_device_once(installed: Path) -> None:
    model = warm_model("tiny", installed)
    cpu = torch.device("cpu")
    assert model.on(cpu) is model.on(cpu)
    assert model.on(cpu)(torch.zeros(1, 3, 8, 8, 8)).shape == (1, 3, 8, 8, 8)


def test_reports_say_the_precision_of_the_device_that_was_used(installed: Path) -> None:
    cpu = torch.device("cpu")
    for precision, words in (("bfloat16", ", bfloat16"), ("float32", "")):
        model = warm_model("tiny", installed, precision)
        model.on(cpu)
        assert model.precision_on(cpu) == words
        assert model.precision_on(torch.device("meta")) == ""


def test_the_network_of_a_second_device_is_loaded_and_checked_again(installed: Path) -> None:
    model = warm_model("tiny", installed)
    zeros = torch.zeros(1, 3, 8, 8, 8)
    logits = model.on(torch.device("cpu"))(zeros)
    assert model.on(torch.device("meta")).module is not model.on(torch.device("cpu")).module
    assert torch.equal(model.on(torch.device("cpu"))(zeros), logits)


def test_unknown_labels_are_refused_with_a_remedy(installed: Path) -> None:
    package = read_package(installed / "tiny")
    brats = replace(package, labels=tuple(OutputLabel(name, 0.5) for name in ("TC", "WT", "ET")))
    with pytest.raises(ModelUnusable, match=r"labels ET, TC, WT, .*Name the outputs"):
        WarmModel(brats)


def test_damaged_weights_are_refused(installed: Path) -> None:
    weights = installed / "tiny" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelUnusable, match="sha256"):
        warm_model("tiny", installed)


def test_an_unknown_name_is_refused(installed: Path) -> None:
    with pytest.raises(ModelUnusable, match="models list"):
        warm_model("nobody", installed)
