"""Weights are copied by the names of channels and labels; names without a place are refused."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from models.labels import Role
from models.network import NetworkSettings, build_network
from models.package import ModelPackage, find_package
from models.training.train.transfer import (
    FIRST_CONVOLUTION,
    LAST_BIAS,
    LAST_CONVOLUTION,
    How,
    NamesDoNotMatch,
    WeightSource,
    match_names,
    parse_source,
    plane_name,
    plane_sources,
    transfer,
)

TINY = NetworkSettings(init_filters=8, blocks_down=(1, 1), blocks_up=(1,))
BLOCKS = replace(TINY, space_to_depth=2)
BRATS = ("T2", "FLAIR", "T1CE"), ("TC", "WT", "ET")
OURS = ("ADC", "FLAIR", "T1CE"), ("enhancing_tumour", "adc_abnormality", "flair_hyperintensity")


def fresh(seed: int, channels: int = 3, labels: int = 3, settings: NetworkSettings = TINY) -> nn.Module:
    torch.manual_seed(seed)
    return build_network(settings, channels, labels)


def matched(
    channels: tuple[str, ...] = (), heads: tuple[str, ...] = ()
) -> tuple[tuple[WeightSource, ...], tuple[WeightSource, ...]]:
    given = [parse_source(text) for text in channels], [parse_source(text) for text in heads]
    return match_names("channel", BRATS[0], OURS[0], given[0], ()), match_names("head", BRATS[1], OURS[1], given[1], ())


def test_the_papers_transfer_is_the_default() -> None:
    channels, heads = matched()
    assert [str(source) for source in channels] == ["ADC=T2:copy", "FLAIR=FLAIR:copy", "T1CE=T1CE:copy"]
    assert [str(source) for source in heads] == [
        "enhancing_tumour=ET:copy",
        "adc_abnormality=TC:copy",
        "flair_hyperintensity=WT:copy",
    ]


def test_each_slice_is_found_under_its_name() -> None:
    parent, child = fresh(1), fresh(2)
    child_names = ("T1CE", "ADC", "FLAIR")  # an order that is neither the parent's nor the labels'
    channels = match_names("channel", BRATS[0], child_names, (), ())
    heads = match_names("head", BRATS[1], OURS[1], (), ())
    before = {name: value.clone() for name, value in parent.state_dict().items()}
    moved = transfer(parent, child, channels, heads, BRATS).state_dict()
    by_channel = dict(zip(BRATS[0], before[FIRST_CONVOLUTION].unbind(1), strict=True))
    for name, kernel in zip(child_names, moved[FIRST_CONVOLUTION].unbind(1), strict=True):
        assert torch.equal(kernel, by_channel[{"ADC": "T2"}.get(name, name)]), name
    stands_in = dict(zip(OURS[1], ("ET", "TC", "WT"), strict=True))
    for end in (LAST_CONVOLUTION, LAST_BIAS):
        by_label = dict(zip(BRATS[1], before[end].unbind(0), strict=True))
        for label, weights in zip(OURS[1], moved[end].unbind(0), strict=True):
            assert torch.equal(weights, by_label[stands_in[label]]), (end, label)
    inside = set(before) - {FIRST_CONVOLUTION, LAST_CONVOLUTION, LAST_BIAS}
    assert all(torch.equal(before[name], moved[name]) for name in inside)


@pytest.mark.parametrize("settings", [TINY, BLOCKS])
def test_a_network_with_reordered_channels_computes_what_its_parent_does(settings: NetworkSettings) -> None:
    parent = fresh(1, settings=settings).eval()
    names = ("T1CE", "T2", "FLAIR")
    labels = ("ET", "TC", "WT")
    sources = match_names("channel", BRATS[0], names, (), ()), match_names("head", BRATS[1], labels, (), ())
    child = transfer(parent, fresh(2, settings=settings), *sources, BRATS).eval()
    seen = torch.randn(1, 3, 8, 8, 8)
    with torch.no_grad():
        expected = parent(seen[:, [names.index(name) for name in BRATS[0]]])
        found = child(seen)
    assert not torch.allclose(found[:, 0], found[:, 1], atol=1e-3)
    assert torch.allclose(found, expected[:, [BRATS[1].index(label) for label in labels]], atol=1e-5)


def test_mean_zero_and_reinitialise() -> None:
    parent, child = fresh(1), fresh(2)
    begin = child.state_dict()[FIRST_CONVOLUTION].clone()
    channels, heads = matched(
        ("ADC=T2+FLAIR:mean", "FLAIR=mean", "T1CE=reinitialise"),
        ("adc_abnormality=zero", "enhancing_tumour=TC+ET:mean"),
    )
    old, new = parent.state_dict(), transfer(parent, child, channels, heads, BRATS).state_dict()
    kernels = old[FIRST_CONVOLUTION]
    assert torch.allclose(new[FIRST_CONVOLUTION][:, 0], (kernels[:, 0] + kernels[:, 1]) / 2)
    assert torch.allclose(new[FIRST_CONVOLUTION][:, 1], kernels.mean(dim=1))
    assert torch.equal(new[FIRST_CONVOLUTION][:, 2], begin[:, 2])
    assert torch.allclose(new[LAST_BIAS][0], (old[LAST_BIAS][0] + old[LAST_BIAS][2]) / 2)
    assert not new[LAST_CONVOLUTION][1].any()
    assert not new[LAST_BIAS][1].any()


def test_a_fourth_channel_is_not_dropped_silently() -> None:
    four = ("T2", "FLAIR", "T1CE", "T1")
    with pytest.raises(NamesDoNotMatch) as refusal:
        match_names("channel", four, OURS[0], (), ())
    sentence = str(refusal.value)
    assert "T1 of the package would be lost" in sentence
    assert sentence.endswith("--channel ADC=T2:copy --channel FLAIR=FLAIR:copy --channel T1CE=T1CE:copy --drop T1")
    kept = match_names("channel", four, OURS[0], (), ("T1",))
    moved = transfer(fresh(1, channels=4), fresh(2), kept, matched()[1], (four, BRATS[1])).state_dict()
    assert torch.equal(moved[FIRST_CONVOLUTION], fresh(1, channels=4).state_dict()[FIRST_CONVOLUTION][:, :3])


def test_names_without_a_place_are_refused_with_the_missing_options() -> None:
    with pytest.raises(NamesDoNotMatch, match="no weights are named for adc_abnormality") as refusal:
        match_names("head", ("ET", "WT", "necrosis"), OURS[1], (), ())
    assert "--head adc_abnormality=reinitialise" in str(refusal.value)
    # The options that the message proposes are accepted.
    proposed = [parse_source(word) for word in str(refusal.value).split() if "=" in word]
    assert str(refusal.value).endswith("--drop necrosis")
    assert len(match_names("head", ("ET", "WT", "necrosis"), OURS[1], proposed, ("necrosis",))) == 3
    with pytest.raises(NamesDoNotMatch, match="ADC=reinitialise"):
        match_names("channel", ("FLAIR", "T1CE"), OURS[0], (), ())
    with pytest.raises(NamesDoNotMatch, match="but FLAIR=FLAIR:copy uses it"):
        match_names("channel", BRATS[0], OURS[0], (), ("FLAIR",))
    with pytest.raises(NamesDoNotMatch, match="--drop T2, but ADC=mean uses it"):
        match_names("channel", BRATS[0], OURS[0], [parse_source("ADC=mean")], ("T2",))
    with pytest.raises(NamesDoNotMatch, match="the data set has ADC"):
        matched(("T1=T2",))
    with pytest.raises(NamesDoNotMatch, match="the package has T2"):
        matched(("ADC=DWI",))


@pytest.mark.parametrize("text", ["ADC", "ADC=", "=T2", "ADC=T2:average", "ADC=T2+FLAIR", "ADC=T2+:mean", "ADC=:mean"])
def test_a_malformed_mapping_is_refused(text: str) -> None:
    with pytest.raises(NamesDoNotMatch, match=r"ADC|T2"):
        parse_source(text)


def test_a_network_of_another_shape_is_refused() -> None:
    other = build_network(NetworkSettings(init_filters=16, blocks_down=(1, 1), blocks_up=(1,)), 3, 3)
    with pytest.raises(NamesDoNotMatch, match="another shape"):
        transfer(other, fresh(1), *matched(), BRATS)


def test_a_source_is_written_as_it_is_read() -> None:
    for source in (
        WeightSource("ADC", How.COPY, ("T2",)),
        WeightSource("ADC", How.MEAN),
        WeightSource("ADC", How.MEAN, ("T2", "T1")),
    ):
        assert parse_source(str(source)) == source


def package_of(channels: tuple[str, ...], presence: bool) -> ModelPackage:
    return replace(find_package("phantom-demo", None), channels=tuple(map(Role, channels)), presence=presence)


@pytest.mark.parametrize("settings", [TINY, BLOCKS])
def test_a_network_that_gets_presence_planes_first_answers_as_before(settings: NetworkSettings) -> None:
    """Whatever the planes say, and with weights that can learn from them."""
    parent = fresh(1, settings=settings).eval()
    channels, heads = matched(("ADC=T2",))
    inputs = (*channels, *plane_sources(channels, package_of(BRATS[0], presence=False)))
    child = transfer(parent, fresh(2, channels=6, settings=settings), inputs, heads, BRATS).eval()
    seen = torch.randn(1, 3, 8, 8, 8)
    with torch.no_grad():
        expected = parent(seen)[:, [BRATS[1].index(name) for name in ("ET", "TC", "WT")]]
        for plane in (0.0, 1.0):
            assert torch.equal(child(torch.cat([seen, torch.full_like(seen, plane)], dim=1)), expected)
    child(torch.cat([seen, torch.ones_like(seen)], dim=1)).sum().backward()
    assert child.get_parameter(FIRST_CONVOLUTION).grad[:, -1].abs().max() > 0


def test_presence_planes_follow_their_channels() -> None:
    parent, child = fresh(1, channels=6), fresh(2, channels=6)
    channels = match_names("channel", BRATS[0], ("T1CE", "ADC", "FLAIR"), [parse_source("FLAIR=mean")], ())
    planes = plane_sources(channels, package_of(BRATS[0], presence=True))
    inputs = (*BRATS[0], *(plane_name(name) for name in BRATS[0]))
    moved = transfer(parent, child, (*channels, *planes), matched()[1], (inputs, BRATS[1])).state_dict()
    old, new = parent.state_dict()[FIRST_CONVOLUTION], moved[FIRST_CONVOLUTION]
    assert torch.equal(new[:, 3], old[:, 5]), "T1CE"
    assert torch.equal(new[:, 4], old[:, 3]), "ADC begins as T2"
    assert torch.allclose(new[:, 5], old[:, 3:].mean(1)), "FLAIR as the mean of all planes, and of no channel"
