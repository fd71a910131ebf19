"""OpenVINO gives the same logits as torch, also for sizes other than that of the traced example."""

import pytest
import torch

from models.network import NetworkSettings, build_network


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("space_to_depth", [1, 2])
def test_the_logits_are_torchs_at_any_size(space_to_depth: int) -> None:
    pytest.importorskip("openvino", reason="the extra `cpu` is not installed")
    from models.openvino_network import openvino_network

    torch.manual_seed(0)
    settings = NetworkSettings(init_filters=8, blocks_down=(1, 2, 2), blocks_up=(1, 1), space_to_depth=space_to_depth)
    network = build_network(settings, 3, 2).eval()
    compiled = openvino_network(network, 3, settings.stride)
    for size in ((16, 16, 16), (24, 32, 40)):
        batch = torch.randn(1, 3, *size)
        with torch.inference_mode():
            expected = network(batch)
        torch.testing.assert_close(compiled(batch), expected, atol=1e-3, rtol=1e-3)
