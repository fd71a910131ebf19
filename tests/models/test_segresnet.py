"""Our SegResNet is MONAI's: the same names, the same weights for a seed, and the same numbers."""

import pytest
import torch
from monai.networks.nets.segresnet import SegResNet as MonaiSegResNet
from monai.networks.utils import pixelshuffle, pixelunshuffle

from models.network import NetworkSettings, build_network

SMALL = {"init_filters": 8, "blocks_down": (1, 2, 1), "blocks_up": (2, 1)}


def monai_network(settings: NetworkSettings, in_channels: int, out_channels: int) -> torch.nn.Module:
    """Return MONAI's network of the same shape."""
    network: torch.nn.Module = MonaiSegResNet(
        spatial_dims=3,
        init_filters=settings.init_filters,
        in_channels=in_channels,
        out_channels=out_channels,
        blocks_down=settings.blocks_down,
        blocks_up=settings.blocks_up,
        upsample_mode=settings.upsample_mode,
    )
    return network


@pytest.mark.parametrize("mode", ["nontrainable", "deconv", "pixelshuffle"])
def test_it_has_the_weights_of_monais_and_computes_the_same(mode: str) -> None:
    settings = NetworkSettings(**SMALL, upsample_mode=mode)  # type: ignore[arg-type]
    with torch.random.fork_rng():
        torch.manual_seed(5)
        ours = build_network(settings, 3, 2)
        torch.manual_seed(5)
        theirs = monai_network(settings, 3, 2)
    # Names, order and values: an optimizer's state in a checkpoint goes by the order.
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())
    batch = torch.randn(2, 3, 8, 12, 16, generator=torch.Generator().manual_seed(6))
    assert torch.equal(ours(batch), theirs(batch))


def test_blocks_are_taken_apart_and_put_together_as_by_monai() -> None:
    settings = NetworkSettings(**SMALL, space_to_depth=2)  # type: ignore[arg-type]
    ours = build_network(settings, 3, 2).eval()
    theirs = monai_network(settings, 3 * 8, 2 * 8).eval()
    theirs.load_state_dict(ours.state_dict())
    batch = torch.randn(1, 3, 8, 16, 24, generator=torch.Generator().manual_seed(7))
    with torch.inference_mode():
        assert torch.equal(ours(batch), pixelshuffle(theirs(pixelunshuffle(batch, 3, 2)), 3, 2))
