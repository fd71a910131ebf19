"""bfloat16 is used where the processor has it and where its labels are those of float32."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.inference import InferenceNetwork, disagreement, has_bfloat16, make_sample, prepare
from models.package import ModelPackage
from models.weights import load_network

CPU = torch.device("cpu")
Make = Callable[..., ModelPackage]


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that says which instructions the processor has."""

    def has(**instructions: Any) -> None:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions)

    return has


@pytest.mark.parametrize("name", ["avx512_bf16", "amx_bf16", "bf16", "sve_bf16"])
def test_the_processors_instructions_decide(processor: Callable[..., None], make_package: Make, name: str) -> None:
    package = make_package()
    for found in (True, False):
        processor(**{name: found, "avx512_f": True, "architecture": "any"})
        assert has_bfloat16(CPU) is found
        assert prepare(load_network(package), package, CPU, "auto").bfloat16 is found
    assert prepare(load_network(package), package, CPU, "bfloat16").bfloat16  # asked for, so without instructions too


def test_float32_is_used_where_it_is_asked_for(processor: Callable[..., None], make_package: Make) -> None:
    processor(avx512_bf16=True)
    package = make_package()
    network = prepare(load_network(package), package, CPU, "float32")
    assert not network.bfloat16
    assert network(torch.zeros(1, 3, 16, 16, 16)).dtype is torch.float32


def test_precisions_agree_on_a_volume_and_say_which_they_are(make_package: Make) -> None:
    package = make_package()
    module = load_network(package)
    reduced, exact = (prepare(module, package, CPU, name) for name in ("bfloat16", "float32"))
    batch = torch.randn(1, 3, 16, 24, 32, generator=torch.Generator().manual_seed(0))
    assert reduced(batch).dtype is torch.bfloat16
    assert 0 < float((reduced(batch) - exact(batch)).abs().mean()) < 0.02 * float(exact(batch).std())
    assert torch.equal(reduced(batch), reduced(batch))


def test_a_processor_that_is_wrong_in_bfloat16_is_found(make_package: Make, caplog: pytest.LogCaptureFixture) -> None:
    class Wrong(nn.Module):
        """Loses the last columns in bfloat16, as a faulty kernel would."""

        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.module(x)
            if x.dtype is torch.bfloat16:
                logits[..., -4:] = 0
            return logits

    package = make_package()
    assert not prepare(Wrong(load_network(package)), package, CPU, "bfloat16").bfloat16
    assert "runs in float32 on cpu: in bfloat16" in caplog.text


def test_a_volume_of_one_voxel_at_the_deepest_level_is_computed_in_float32(make_package: Make) -> None:
    package = make_package()
    network = InferenceNetwork(load_network(package), CPU, package.network.stride, bfloat16=True)
    stride = package.network.stride
    assert network(torch.zeros(1, 3, 2 * stride, 2 * stride, stride)).dtype is torch.float32
    assert network(torch.zeros(1, 3, 2 * stride, 2 * stride, 2 * stride)).dtype is torch.bfloat16


def test_what_counts_as_disagreement() -> None:
    exact = torch.randn(1, 2, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(exact.shape, generator=torch.Generator().manual_seed(1))
    assert disagreement(exact, exact.bfloat16(), [0.5, 0.5]) is None
    assert "standard deviations" in str(disagreement(exact, exact + 0.3 * noise, [0.5, 0.5]))
    moved = exact + 0.04  # a small error, but at the threshold of every voxel
    assert "% of voxels differ" in str(
        disagreement(torch.full_like(exact, -0.02), torch.full_like(exact, 0.02), [0.5] * 2)
    )
    assert disagreement(exact + 9, moved + 9, [0.5, 0.5]) is None
    broken = exact.clone()
    broken[0, 0, 0, 0, 0] = torch.nan
    assert disagreement(exact, broken, [0.5, 0.5]) == "its logits are not finite"


def test_the_sample_is_the_same_each_time_whatever_the_global_seed() -> None:
    torch.manual_seed(1)
    first = make_sample(3, 4)
    torch.manual_seed(2)
    assert torch.equal(first, make_sample(3, 4))
    assert first.shape == (1, 3, 12, 8, 8)
    assert float(first.max()) > 2  # the ball is in it
