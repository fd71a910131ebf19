"""The head is found in every role's contrast, whole, and without the noise around it."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.labels import Role
from pipeline.head import filled_head

SHAPE = (24, 40, 36)
Z, Y, X = np.indices(SHAPE)
HEAD = (X - 18) ** 2 / 13**2 + (Y - 20) ** 2 / 15**2 + (Z - 11) ** 2 / 9**2 < 1
BONE = HEAD & ~((X - 18) ** 2 / 11**2 + (Y - 20) ** 2 / 13**2 + (Z - 11) ** 2 / 7.5**2 < 1)
SCALP = HEAD & ~((X - 18) ** 2 / 12**2 + (Y - 20) ** 2 / 14**2 + (Z - 11) ** 2 / 8.2**2 < 1)
FLUID = (X - 18) ** 2 / 4**2 + (Y - 20) ** 2 / 4**2 + (Z - 11) ** 2 / 4**2 < 1


def scan(tissue: float, scalp: float, fluid: float, noise: float) -> NDArray[np.float32]:
    pixels = np.where(HEAD, tissue, 0.0)
    pixels[BONE], pixels[SCALP], pixels[FLUID] = 0, scalp, fluid
    real, imaginary = np.random.default_rng(0).normal(0, noise, (2, *SHAPE))
    return np.hypot(pixels + real, imaginary).astype(np.float32)


def overlap(found: torch.Tensor, head: NDArray[np.bool_]) -> float:
    return 2 * np.count_nonzero(found.numpy() & head) / (int(found.sum()) + np.count_nonzero(head))


@pytest.mark.parametrize(("role", "fluid"), [(Role.T1CE, 150.0), (Role.FLAIR, 20.0)])
def test_bone_and_fluid_belong_to_the_head_and_noise_does_not(role: Role, fluid: float) -> None:
    found = filled_head(torch.from_numpy(scan(400, 500, fluid, 10)), role)
    assert found[11, 20, 18]  # in the fluid
    assert not found[:, :2].any()
    assert overlap(found, HEAD) > 0.95


def test_an_adc_map_of_the_brain_alone_gives_the_brain() -> None:
    brain = HEAD & ~BONE
    pixels = np.where(brain, 800, np.nan).astype(np.float32)
    pixels[FLUID] = 3000
    pixels[2, 2, 2] = 900  # a speck of noise
    found = filled_head(torch.from_numpy(pixels), Role.ADC)
    assert overlap(found, brain) > 0.95
    assert not found[2, 2, 2]


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_air_holds_no_head(value: float) -> None:
    assert not filled_head(torch.full(SHAPE, value), Role.FLAIR).any()
    assert not filled_head(torch.full(SHAPE, value), Role.ADC).any()
