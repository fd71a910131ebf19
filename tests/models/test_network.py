"""The network's shape follows its settings."""

import pytest
import torch

from models.network import NetworkSettings, build_network, count_parameters


def test_logits_have_the_input_size_and_one_channel_a_label() -> None:
    settings = NetworkSettings(init_filters=8)
    network = build_network(settings, in_channels=3, out_channels=2).eval()
    sizes = (settings.stride, 2 * settings.stride, 3 * settings.stride)
    with torch.inference_mode():
        logits = network(torch.zeros(1, 3, *sizes))
    assert logits.shape == (1, 2, *sizes)


def test_a_card_says_whether_voxels_are_taken_in_blocks() -> None:
    assert NetworkSettings().description == "SegResNet, 16 initial filters, blocks down [1, 2, 2, 4], up [1, 1, 1]"
    assert NetworkSettings(space_to_depth=2).description.endswith(", over blocks of 2 voxels cubed (space to depth)")


def test_stride_is_two_to_the_number_of_halvings() -> None:
    assert NetworkSettings(blocks_down=(1, 2, 2, 4), blocks_up=(1, 1, 1)).stride == 2**3
    assert NetworkSettings(blocks_down=(1, 1), blocks_up=(1,)).stride == 2


def test_a_network_of_blocks_gives_every_voxel_of_a_block_logits_of_its_own() -> None:
    settings = NetworkSettings(init_filters=8, blocks_down=(1, 1), blocks_up=(1,), space_to_depth=2)
    assert settings.stride == 2**2
    network = build_network(settings, in_channels=3, out_channels=2).eval()
    with torch.inference_mode():
        logits = network(torch.randn(1, 3, 8, 12, 16, generator=torch.Generator().manual_seed(0)))
    assert logits.shape == (1, 2, 8, 12, 16)
    assert float((logits[..., ::2, ::2, ::2] - logits[..., 1::2, 1::2, 1::2]).abs().mean()) > 1e-3


def test_a_voxel_of_a_block_comes_out_where_it_went_in() -> None:
    settings = NetworkSettings(init_filters=8, blocks_down=(1, 1), blocks_up=(1,), space_to_depth=2)
    network = build_network(settings, in_channels=2, out_channels=2).eval()
    # With no SegResNet between, blocks are taken apart and put together again.
    volume = torch.arange(2 * 4 * 4 * 8, dtype=torch.float32).reshape(1, 2, 4, 4, 8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("models.segresnet.SegResNet.forward", lambda self, x: x)
        assert torch.equal(network(volume), volume)


def test_wider_network_has_more_parameters() -> None:
    small, large = (build_network(NetworkSettings(init_filters=filters), 3, 3) for filters in (8, 16))
    # Nearly all weights are convolutions between channels, whose number goes with the square.
    assert 3.5 < count_parameters(large) / count_parameters(small) < 4


def test_contradictory_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="blocks_up has 2 entries, blocks_down 4"):
        NetworkSettings(blocks_up=(1, 1))
    with pytest.raises(ValueError, match="init_filters is 12"):
        NetworkSettings(init_filters=12)
    with pytest.raises(ValueError, match="space_to_depth is 0"):
        NetworkSettings(space_to_depth=0)
