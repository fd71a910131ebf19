"""Weights survive packing to half precision, and nothing but fitting, finite safetensors is loaded."""

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from models.network import NetworkSettings, build_network
from models.package import ModelPackage, PackageBroken, read_package
from models.weights import load_network, pack_weights

Make = Callable[..., ModelPackage]
Swap = Callable[[ModelPackage, bytes], None]


def test_weights_come_back_as_half_precision_left_them(make_package: Make) -> None:
    package = make_package(seed=3)
    torch.manual_seed(3)
    original = build_network(package.network, 3, 3).state_dict()
    loaded = load_network(package)
    assert not loaded.training
    for name, value in loaded.state_dict().items():
        assert value.dtype is torch.float32
        assert torch.equal(value, original[name].half().float())


def test_sha256_is_of_the_bytes_on_disk(make_package: Make) -> None:
    package = make_package()
    content, sha256 = pack_weights(load_network(package))
    assert hashlib.sha256(package.weights_path.read_bytes()).hexdigest() == package.weights_sha256
    # Loading and packing again changes nothing: the same weights have the same name for ever.
    assert (content, sha256) == (package.weights_bytes, package.weights_sha256)


class _Trap:
    """Unpickling it would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path(self._path),)  # type: ignore[return-value]


def test_a_pickle_is_refused_and_not_run(make_package: Make, swap_weights: Swap, tmp_path: Path) -> None:
    package = make_package()
    sprung = tmp_path / "sprung"
    content = pickle.dumps(_Trap(sprung))
    swap_weights(package, content)
    with pytest.raises(PackageBroken, match="is no safetensors file"):
        load_network(read_package(package.folder))
    assert not sprung.exists()
    pickle.loads(content)
    assert sprung.exists()  # the trap does work


def test_weights_of_another_shape_are_refused_by_name(make_package: Make, swap_weights: Swap) -> None:
    package = make_package()
    wider = build_network(NetworkSettings(init_filters=16, blocks_down=(1, 1), blocks_up=(1,)), 3, 3)
    swap_weights(package, pack_weights(wider)[0])
    with pytest.raises(PackageBroken, match=r"weights do not fit the network of model\.toml, first \w+"):
        load_network(read_package(package.folder))


def test_weights_that_are_not_finite_are_refused(make_package: Make, swap_weights: Swap) -> None:
    package = make_package()
    state = {name: value.clone() for name, value in load_network(package).state_dict().items()}
    next(iter(state.values())).view(-1)[0] = torch.nan
    swap_weights(package, save(state))
    with pytest.raises(PackageBroken, match="some weights are not finite"):
        load_network(read_package(package.folder))
