"""Neither training nor the tuning of thresholds draws a head of a family that is held out."""

import itertools
from typing import NamedTuple

import pytest
import torch

from models.training.synthetic import samples
from models.training.synthetic.augment import Sample
from models.training.synthetic.families import LEARNED_FROM, Family
from models.training.synthetic.samples import HeadSamples, SampleSettings

HELD_OUT = set(Family) - set(LEARNED_FROM)
HEADS = 60


class SynthesiseCall(NamedTuple):
    """Arguments of a call of `synthesise`."""

    seed: int
    family: Family


def test_the_grown_family_is_held_out() -> None:
    assert Family.GROWN in HELD_OUT
    assert Family.PAINTED in LEARNED_FROM


def test_training_draws_from_training_families_only(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[SynthesiseCall] = []

    def synthesise(seed: int, variant: object, spacing_mm: float, family: Family = Family.PAINTED) -> SynthesiseCall:
        drawn.append(SynthesiseCall(seed, family))
        return drawn[-1]

    def augment(head: SynthesiseCall, *_: object) -> Sample:
        assert head.family not in HELD_OUT
        return Sample(torch.zeros(3, 8, 8, 8), torch.zeros(3, 8, 8, 8))

    monkeypatch.setattr(samples, "synthesise", synthesise)
    monkeypatch.setattr(samples, "augment", augment)
    stream = iter(HeadSamples(3, SampleSettings(spacing_mm=6.0, patch=8, stride=8, head_spacing_mm=4.0)))
    for _ in itertools.takewhile(lambda _: len(drawn) < HEADS, stream):
        pass
    assert {head.family for head in drawn} == set(LEARNED_FROM)
    assert max(head.seed for head in drawn) < samples.FIRST_HELD_OUT_SEED
