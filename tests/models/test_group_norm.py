"""Statistics of channels-last volumes are right at any size, where PyTorch's own are not."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from models.group_norm import ChannelsLastGroupNorm, use_exact_group_norm
from models.network import NetworkSettings, build_network

LAST = torch.channels_last_3d


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Each thread has sums of its own, so that one thread has the largest."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def expected(x: Tensor, norm: nn.GroupNorm) -> Tensor:
    """Group normalisation by its definition, in float64."""
    groups = x.double().reshape(len(x), norm.num_groups, -1)
    centred = groups - groups.mean(-1, keepdim=True)
    scaled = centred / (groups.var(-1, correction=0, keepdim=True) + norm.eps).sqrt()
    weight, bias = (each.double().view(1, -1, 1, 1, 1) for each in (norm.weight, norm.bias))
    return (scaled.view(x.shape) * weight + bias).float()


def exact_norm(groups: int, channels: int) -> ChannelsLastGroupNorm:
    norm = ChannelsLastGroupNorm(groups, channels)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        norm.weight.copy_(0.5 + torch.rand(channels, generator=generator))
        norm.bias.copy_(torch.randn(channels, generator=generator))
    return norm


@pytest.mark.parametrize("size", [(128, 80, 80), (3, 150, 150), (1, 1, 1)])
def test_values_are_those_of_the_definition_at_every_size(size: tuple[int, int, int]) -> None:
    norm = exact_norm(2, 4)
    x = 0.9 + 0.7 * torch.randn(1, 4, *size, generator=torch.Generator().manual_seed(0))
    x[..., : size[2] // 2] = 0.3171  # the same number again and again, as in air, is rounded the same way each time
    with torch.inference_mode():
        torch.testing.assert_close(norm(x.to(memory_format=LAST)), expected(x, norm), atol=3e-4, rtol=0)


def test_each_image_of_a_batch_has_its_own_statistics() -> None:
    norm = exact_norm(2, 4)
    x = torch.randn(2, 4, 5, 6, 7, generator=torch.Generator().manual_seed(0))
    x[1] *= 10
    with torch.inference_mode():
        torch.testing.assert_close(norm(x.to(memory_format=LAST)), expected(x, norm), atol=1e-5, rtol=1e-5)


def test_bfloat16_stays_bfloat16_and_channels_last() -> None:
    norm = exact_norm(2, 4)
    x = torch.randn(1, 4, 8, 8, 8, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16, memory_format=LAST)
    with torch.inference_mode():
        found = norm(x)
    assert found.dtype is torch.bfloat16
    assert found.is_contiguous(memory_format=LAST)
    torch.testing.assert_close(found.float(), expected(x, norm), atol=0.02, rtol=0.01)


@pytest.mark.parametrize("edge", [1, 2])
def test_every_norm_of_a_network_is_replaced_and_its_logits_stay(edge: int) -> None:
    torch.manual_seed(0)
    shape = NetworkSettings(init_filters=8, blocks_down=(1, 2), blocks_up=(1,), space_to_depth=edge)
    network = build_network(shape, 3, 2).eval()
    x = torch.randn(1, 3, 16, 16, 16)
    with torch.inference_mode():
        before = network(x)
        use_exact_group_norm(network)
        torch.testing.assert_close(network(x), before, atol=1e-5, rtol=1e-4)
    norms = [each for each in network.modules() if isinstance(each, nn.GroupNorm)]
    assert len(norms) == 9
    assert all(isinstance(each, ChannelsLastGroupNorm) for each in norms)
