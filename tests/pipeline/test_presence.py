"""A network with presence planes takes any subset of its channels, and sees nothing of the others."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.labels import Role
from models.network import NetworkSettings, build_network
from pipeline.presence import network_input, study_input

SHAPE = (4, 8, 8)
SUBSETS = st.lists(st.booleans(), min_size=3, max_size=3).filter(any)


def _channels(seed: int = 0) -> Tensor:
    return torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(seed))


def test_behind_the_channels_come_planes_that_say_which_are_there() -> None:
    channels = _channels()
    made = network_input(channels, (True, False, True))
    assert made.shape == (6, *SHAPE)
    assert torch.equal(made[[0, 2]], channels[[0, 2]])
    assert not made[[1, 4]].any()
    assert (made[[3, 5]] == 1).all()


def test_presence_is_that_of_every_channel() -> None:
    with pytest.raises(ValueError, match="3 channels, but presence of 2"):
        network_input(_channels(), (True, False))


@settings(max_examples=20, deadline=None)
@given(SUBSETS, st.sampled_from([float("nan"), float("inf"), -7.0]), st.integers(0, 3))
def test_any_subset_gives_finite_probabilities_whatever_the_absent_channels_hold(
    present: list[bool], rubbish: float, seed: int
) -> None:
    torch.manual_seed(0)
    network = build_network(NetworkSettings(init_filters=8, blocks_down=(1, 1), blocks_up=(1,)), 6, 2).eval()
    channels = _channels(seed)
    channels[~torch.tensor(present)] = rubbish
    with torch.inference_mode():
        found = torch.sigmoid(network(network_input(channels, tuple(present))[None]))
        channels[~torch.tensor(present)] = 0
        expected = torch.sigmoid(network(network_input(channels, tuple(present))[None]))
    assert torch.isfinite(found).all()
    assert torch.equal(found, expected)


@given(st.permutations(range(3)), SUBSETS)
def test_channels_keep_their_planes_in_any_order(order: list[int], present: list[bool]) -> None:
    made = network_input(_channels(), tuple(present))
    turned = network_input(_channels()[order], tuple(present[each] for each in order))
    assert torch.equal(turned, made[[*order, *(3 + each for each in order)]])


def test_the_channels_of_a_study_take_their_places_in_the_networks_input() -> None:
    wanted = (Role.ADC, Role.FLAIR, Role.T1CE)
    channels = _channels()[:2]
    made = study_input(channels, (Role.T1CE, Role.FLAIR), wanted, presence=True)
    zero = torch.zeros(1, *SHAPE)
    assert torch.equal(made, torch.cat([zero, channels[1:], channels[:1], zero, zero + 1, zero + 1]))
    assert torch.equal(made, study_input(channels[[1, 0]], (Role.FLAIR, Role.T1CE), wanted, presence=True))
    assert study_input(channels, wanted[:2], wanted[:2], presence=False) is channels
    with pytest.raises(ValueError, match="the network needs ADC, FLAIR, T1CE, and the study has T1CE, FLAIR"):
        study_input(channels, (Role.T1CE, Role.FLAIR), wanted, presence=False)
