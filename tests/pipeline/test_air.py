"""Padding in weighted images is as dark as air to the network, not as bright as the brain."""

import numpy as np
import pytest
import torch

from models.labels import Role
from pipeline.air import check_air, with_air
from pipeline.align import align
from pipeline.align_settings import AlignSettings
from pipeline.errors import AirBright
from pipeline.normalise import normalise
from pipeline.volume import Geometry, Volume

GRID = Geometry.axial((32, 32, 32), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0), "1.2.3")


def head(air: float, tissue: float = 800.0) -> Volume:
    """A ball of tissue in air; T1CE and FLAIR have texture."""
    z, y, x = np.meshgrid(*(np.arange(32) - 15.5,) * 3, indexing="ij")
    texture = tissue + 100 * np.sin(x) * np.cos(y)
    return Volume(np.where(x * x + y * y + z * z < 144, texture, air).astype(np.float32), GRID)


@pytest.mark.parametrize(("dark", "expected"), [(20, 0), (-1024, -1024)])
def test_the_level_is_zero_or_the_darkest_of_images_with_negative_values(dark, expected):
    pixels = np.full((4, 8, 8), 500.0, np.float32)
    pixels[0], pixels[1, :4] = dark, np.nan
    filled = with_air(Volume(pixels, Geometry.axial((4, 8, 8), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), ""))).pixels
    assert filled[1, 0, 0] == expected
    np.testing.assert_array_equal(filled[~np.isnan(pixels)], pixels[~np.isnan(pixels)])


def test_a_volume_without_padding_is_left_as_it_is():
    volume = head(5.0)
    assert with_air(volume) is volume


def test_air_that_is_padding_without_saying_so_is_refused():
    check_air("1.2.3", head(0.0).pixels, inverted=False)
    check_air("1.2.3", np.full((8, 8, 8), 5, np.float32), inverted=False)
    check_air("1.2.3", np.full((8, 8, 8), np.nan, np.float32), inverted=False)
    with pytest.raises(AirBright, match=r"1\.2\.3: the air around the head is brighter"):
        check_air("1.2.3", head(32767.0).pixels, inverted=False)


def test_inverted_images_are_refused_and_those_that_only_say_so_are_not():
    dark = head(0.0).pixels
    check_air("1.2.3", dark, inverted=True)
    with pytest.raises(AirBright, match="MONOCHROME1"):
        check_air("1.2.3", 4095 - dark, inverted=True)


@pytest.mark.parametrize("padded", [Role.T1CE, Role.FLAIR])
def test_padded_air_gives_the_channels_of_dark_air(padded):
    roles = (Role.T1CE, Role.FLAIR)

    def channels(air: float):
        volumes = {role: head(air if role is padded else 0.0) for role in roles}
        aligned = align(volumes, roles, 4.0, 1, torch.device("cpu"), AlignSettings(enabled=False))
        return normalise(aligned.channels, roles)

    torch.testing.assert_close(channels(np.nan), channels(0.0))
