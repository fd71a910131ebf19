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


def test_stride_is_two_to_the_number_of_halvings() -> None:
    assert NetworkSettings(blocks_down=(1, 2, 2, 4), blocks_up=(1, 1, 1)).stride == 2**3
    assert NetworkSettings(blocks_down=(1, 1), blocks_up=(1,)).stride == 2


def test_wider_network_has_more_parameters() -> None:
    small, large = (build_network(NetworkSettings(init_filters=filters), 3, 3) for filters in (8, 16))
    # Nearly all weights are convolutions between channels, whose number goes with the square.
    assert 3.5 < count_parameters(large) / count_parameters(small) < 4


def test_contradictory_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="blocks_up has 2 entries, blocks_down 4"):
        NetworkSettings(blocks_up=(1, 1))
    with pytest.raises(ValueError, match="init_filters is 12"):
        NetworkSettings(init_filters=12)
