"""The SegResNet that is served is MONAI's: the same names, the same weights for a seed, and the same numbers."""

import pytest
import torch

from models.network import NetworkSettings, build_network
from models.training.train.monai_segresnet import monai_segresnet

SMALL = {"init_filters": 8, "blocks_down": (1, 2, 1), "blocks_up": (2, 1)}


@pytest.mark.parametrize("edge", [1, 2])
@pytest.mark.parametrize("mode", ["nontrainable", "deconv", "pixelshuffle"])
def test_it_has_the_weights_of_monais_and_computes_the_same(mode: str, edge: int) -> None:
    settings = NetworkSettings(**SMALL, upsample_mode=mode, space_to_depth=edge)  # type: ignore[arg-type]
    with torch.random.fork_rng():
        torch.manual_seed(5)
        ours = build_network(settings, 3, 2)
        torch.manual_seed(5)
        theirs = monai_segresnet(settings, 3, 2)
    # Names, order and values: an optimizer's state in a checkpoint goes by the order.
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())
    batch = torch.randn(2, 3, 8, 16, 24, generator=torch.Generator().manual_seed(6))
    assert torch.equal(ours(batch), theirs(batch))
