"""A MONAI bundle becomes a package whose network computes the same, or is refused with a sentence."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.networks.nets.segresnet import SegResNet
from monai.networks.nets.unet import UNet
from torch import nn

from models.install import verify_package
from models.labels import Role
from models.package import IntendedUse, ModelPackage
from models.training.train.monai_bundle import BundleRefused, import_bundle, read_bundle
from models.weights import load_network

CHANNELS = (Role.T1CE, Role.T1, Role.T2, Role.FLAIR)
SHAPE: dict[str, Any] = {
    "blocks_down": [1, 2],
    "blocks_up": [1],
    "init_filters": 8,
    "in_channels": 4,
    "out_channels": 3,
}


def write_bundle(
    folder: Path, network: nn.Module, wrapped: bool = True, definition: dict[str, Any] | None = None
) -> Path:
    """Write a bundle like https://github.com/Project-MONAI/model-zoo/tree/dev/models/brats_mri_segmentation."""
    (folder / "models").mkdir(parents=True)
    (folder / "configs").mkdir()
    state = network.state_dict()
    torch.save({"model": state} if wrapped else state, folder / "models" / "model.pt")
    names = {"0": "T1c", "1": "T1", "2": "T2", "3": "FLAIR"}
    outputs = {"0": "Tumor core", "1": "Whole tumor", "2": "Enhancing tumor"}
    metadata = {
        "version": "0.4.8",
        "name": "BraTS MRI segmentation",
        "network_data_format": {
            "inputs": {"image": {"channel_def": names}},
            "outputs": {"pred": {"channel_def": outputs}},
        },
    }
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    network_def = {"_target_": "SegResNet", **SHAPE, "dropout_prob": 0.2} if definition is None else definition
    config = {"network_def": network_def, "network": "$@network_def.to(@device)"}
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
    return folder


def their_network(**changes: Any) -> nn.Module:
    torch.manual_seed(1)
    return SegResNet(spatial_dims=3, dropout_prob=0.2, **{**SHAPE, **changes}).eval()


def imported(bundle: Path, out: Path) -> ModelPackage:
    return import_bundle(read_bundle(bundle), CHANNELS, ("TC", "WT", "ET"), 1.0, ("brats", "1.0.0"), out)


@pytest.mark.parametrize(("mode", "wrapped"), [("nontrainable", True), ("deconv", False)])
def test_the_package_computes_what_the_bundle_does_with_axes_turned(tmp_path: Path, mode: str, wrapped: bool) -> None:
    theirs = their_network(upsample_mode=mode)
    definition = {"_target_": "SegResNet", **SHAPE, "upsample_mode": mode}
    package = imported(write_bundle(tmp_path / "bundle", theirs, wrapped, definition), tmp_path / "brats")
    verify_package(package)
    assert package.channels == CHANNELS
    assert [label.name for label in package.labels] == ["TC", "WT", "ET"]
    assert package.intended_use is IntendedUse.RESEARCH
    assert (package.network.blocks_down, package.network.upsample_mode) == ((1, 2), mode)
    seen = torch.randn(1, 4, 8, 10, 12)  # x, y, z: of unlike lengths
    with torch.no_grad():
        expected = theirs(seen)
        found = load_network(package)(seen.permute(0, 1, 4, 3, 2)).permute(0, 1, 4, 3, 2)
        unturned = load_network(package)(seen)
    assert torch.allclose(found, expected, atol=0.02)  # the package's weights are float16
    assert not torch.allclose(unturned, expected, atol=0.02)
    text = (package.folder / "model.toml").read_text()
    assert 'channels_were = "T1c, T1, T2, FLAIR"' in text


def test_names_have_to_be_given_and_the_refusal_says_what_the_bundle_calls_them(tmp_path: Path) -> None:
    bundle = read_bundle(write_bundle(tmp_path / "bundle", their_network()))
    with pytest.raises(BundleRefused, match=r"Name 4 different channels .* calls them T1c, T1, T2, FLAIR"):
        import_bundle(bundle, CHANNELS[:3], ("TC", "WT", "ET"), 1.0, ("brats", "1"), tmp_path / "out")
    with pytest.raises(BundleRefused, match=r"Name 3 different labels .* calls them Tumor core"):
        import_bundle(bundle, CHANNELS, ("TC", "TC", "ET"), 1.0, ("brats", "1"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_networks_are_refused(tmp_path: Path) -> None:
    unet = UNet(3, 4, 3, (8, 16), (2,))
    with pytest.raises(BundleRefused, match="describes a UNet"):
        read_bundle(write_bundle(tmp_path / "a", unet, definition={"_target_": "monai.networks.nets.UNet"}))
    with pytest.raises(BundleRefused, match="weights have other names"):
        read_bundle(write_bundle(tmp_path / "b", unet))
    write_bundle(tmp_path / "c", their_network(), definition={"_target_": "SegResNet", **SHAPE, "act": "leakyrelu"})
    with pytest.raises(BundleRefused, match="sets act, which ours does not have"):
        read_bundle(tmp_path / "c")
    with pytest.raises(BundleRefused, match=r"no SegResNet of ours: .* weights differ"):
        read_bundle(write_bundle(tmp_path / "d", their_network(norm=("BATCH", {}))))
    flat = SegResNet(spatial_dims=2, **SHAPE)
    with pytest.raises(BundleRefused, match="no three-dimensional"):
        read_bundle(write_bundle(tmp_path / "e", flat))


class _Mischief:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("run",))


def test_nothing_but_weights_is_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = write_bundle(tmp_path / "bundle", their_network())
    (bundle / "models" / "model.pt").write_bytes(pickle.dumps({"model": _Mischief()}, protocol=2))
    with pytest.raises(BundleRefused, match="damaged, or holds more than weights"):
        read_bundle(bundle)
    assert capsys.readouterr().out == ""
    (bundle / "models" / "model.pt").unlink()
    with pytest.raises(BundleRefused, match=r"model\.pt is missing"):
        read_bundle(bundle)
    with pytest.raises(BundleRefused, match="is no MONAI bundle"):
        read_bundle(tmp_path)
