"""The average brain has the orientation of the heads; without nilearn an error says what to install."""

import importlib.util

import numpy as np
import pytest

from models.training.synthetic import brain_from_template as template
from models.training.synthetic.brain_from_template import sample_template
from models.training.synthetic.fields import Coordinates
from models.training.synthetic.nilearn_data import NilearnMissing


def at(*places: tuple[float, float, float]) -> Coordinates:
    x, y, z = (np.array(values, dtype=np.float32)[None, None] for values in zip(*places, strict=True))
    return Coordinates(x, y, z)


def test_structures_are_at_their_positions() -> None:
    # LPS from the middle of the brain: centrum semiovale, left lateral ventricle's body, beyond the vertex, cerebellum
    # (behind and below), the same place in front (the face, no brain).
    fields = sample_template(at((28, -5, 22), (-10, -14, 9), (0, 0, 90), (30, 50, -45), (30, -80, -45)))
    grey, white, hull, ventricles = (
        field[0, 0] for field in (fields.grey, fields.white, fields.hull, fields.ventricles)
    )
    assert white[0] > 0.9
    assert grey[1] + white[1] < 0.3
    assert ventricles[1] < 0 < ventricles[0]
    assert hull[2] > 10
    assert hull[3] < -5
    assert grey[3] + white[3] > 0.7
    assert hull[4] > 0


def test_the_distance_is_extrapolated_beyond_the_template() -> None:
    near, far = sample_template(at((0, 0, 80), (0, 0, 130))).hull[0, 0]
    assert far > near + 30


def test_without_nilearn_an_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    template._maps.cache_clear()
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "nilearn" else find(name))
    with pytest.raises(NilearnMissing, match=r"Install glionode\[train\]"):
        sample_template(at((0, 0, 0)))
