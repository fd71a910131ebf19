"""The threshold chosen is the one that fits, on heads that nothing else uses."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.labels import LABELS
from models.package import OutputLabel, find_package
from models.training.synthetic.families import LEARNED_FROM
from models.training.synthetic.samples import FIRST_HELD_OUT_SEED
from models.training.train import synthetic_thresholds as thresholds
from pipeline.volume import Geometry

GRID = Geometry.axial((8, 8, 8), (1, 1, 1), (0, 0, 0), "1.2")


class FakeHead:
    """Truth: the middle cube for the first label, nothing for the second, one half for the third."""

    def truth(self, grid: Geometry) -> np.ndarray:
        masks = np.zeros((3, *grid.shape), bool)
        masks[0, 2:6, 2:6, 2:6] = True
        masks[2, :4] = True
        return masks


def test_each_label_gets_the_threshold_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities = torch.zeros(3, 8, 8, 8)
    probabilities[0] = 0.72  # too much everywhere ...
    probabilities[0, 2:6, 2:6, 2:6] = 0.9  # ... and more in the middle: 0.75 is right and nearest 0.5
    probabilities[2, :4] = 0.32  # shy, but right: 0.3 at most
    drawn = []
    monkeypatch.setattr(
        thresholds, "synthesise", lambda seed, variant, family: drawn.append((seed, family)) or FakeHead()
    )
    monkeypatch.setattr(thresholds, "head_probabilities", lambda *_: (probabilities, GRID, GRID))
    labels = tuple(OutputLabel(label.name, 0.55) for label in reversed(LABELS))
    tuned = thresholds.tune_thresholds(
        replace(find_package("phantom-demo", None), labels=labels), torch.nn.Identity(), 3
    )
    found = {label.name: label.threshold for label in tuned.labels}
    assert [label.name for label in tuned.labels] == [label.name for label in labels]
    assert found == {"enhancing_tumour": 0.75, "adc_abnormality": 0.55, "flair_hyperintensity": 0.3}
    assert min(seed for seed, _ in drawn) >= FIRST_HELD_OUT_SEED + 1_000_000
    assert {family for _, family in drawn} == set(LEARNED_FROM)


class HeadBelowAPlane:
    """Truth of all labels: what lies at most 7.6 mm from the first slice of the model's grid."""

    def truth(self, grid: Geometry) -> np.ndarray:
        below = np.arange(grid.shape[0]) * grid.spacing_mm[0] <= 7.6
        return np.broadcast_to(below[:, None, None], (3, *grid.shape))


def test_thresholds_fit_the_grid_on_which_masks_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    coarse = Geometry.axial((8, 8, 8), (2, 2, 2), (0, 0, 0), "1.2")
    fine = Geometry.axial((29, 15, 15), (0.5, 1, 1), (0, 0, 0), "1.2")
    np.testing.assert_allclose(fine.affine[:3, 3], coarse.affine[:3, 3])  # both begin at the same point
    probabilities = torch.zeros(3, 8, 8, 8)
    probabilities[:, :4] = 0.9
    probabilities[:, 4] = 0.2  # 0.375 at 7.5 mm: from 0.25 to 0.35 is right there, 0.5 only on the coarse grid
    monkeypatch.setattr(thresholds, "synthesise", lambda *_, **__: HeadBelowAPlane())
    monkeypatch.setattr(thresholds, "head_probabilities", lambda *_: (probabilities, coarse, fine))
    tuned = thresholds.tune_thresholds(find_package("phantom-demo", None), torch.nn.Identity(), 1)
    assert [label.threshold for label in tuned.labels] == [0.35] * 3


def test_a_threshold_nearer_to_a_half_wins_unless_it_costs_half_a_percent() -> None:
    at = {0.25: 0.746, 0.3: 0.744, 0.35: 0.736}
    means = [at.get(candidate, 0.5) for candidate in thresholds.CANDIDATES]
    assert thresholds.best_threshold([means, means], 0.5) == 0.3
    assert thresholds.best_threshold([], 0.45) == 0.45
