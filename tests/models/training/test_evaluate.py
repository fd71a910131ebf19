"""Scores follow the stated conventions, and a package is measured through the steps of the pipeline."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.labels import LABELS, Role
from models.package import ModelPackage
from models.training.evaluate import (
    HeadScore,
    evaluate,
    scan_head,
    score_head,
    segment_head,
    summarise,
)
from models.training.evaluation.lesions import LesionScore
from models.training.evaluation.score import LabelScore
from models.training.samples import FIRST_HELD_OUT_SEED
from models.training.synthesis import synthesise
from models.training.tumour import Variant
from pipeline.align import AlignSettings
from pipeline.normalise import ADC_SCALE


def cube(start: int, stop: int) -> np.ndarray:
    mask = np.zeros((10, 10, 10), dtype=bool)
    mask[start:stop, :, :] = True
    return mask


def test_a_head_is_scored_label_by_label() -> None:
    truth = np.stack([cube(0, 0), cube(0, 4), cube(0, 2)])
    found = np.stack([cube(0, 1), cube(0, 4), cube(0, 1)])
    score = score_head(5, Variant.UNIFOCAL, truth, found, spacing_mm=(10.0, 1.0, 1.0))
    assert [label.label for label in score.labels] == [label.name for label in LABELS]
    assert [label.dice for label in score.labels] == [0.0, 1.0, pytest.approx(2 / 3)]
    # 100 voxels of 10 mm3 a layer are 1 ml.
    assert [label.found_ml for label in score.labels] == pytest.approx([1, 4, 1])
    assert [label.true_ml for label in score.labels] == pytest.approx([0, 4, 2])


def scored(variant: Variant, value: float | None, found_ml: float) -> HeadScore:
    """A head whose one label has a Dice, or is not in the truth."""
    lesions = LesionScore(*((0, 0, 1, 0) if value is None else (2, 1, 1, 1)))
    score = LabelScore(
        "enhancing_tumour", value or 0.0, 10 * (value or 0.0), float(value is not None), found_ml, lesions
    )
    return HeadScore(1, variant, (score,))


def test_heads_without_the_label_stay_out_of_its_mean() -> None:
    heads = [
        scored(Variant.UNIFOCAL, 0.9, 1),
        scored(Variant.UNIFOCAL, 0.3, 1),
        scored(Variant.SMALL, 0.0, 0),
        scored(Variant.NON_ENHANCING, None, 7),
        scored(Variant.LESION_FREE, None, 2),
        scored(Variant.LESION_FREE, None, 0),
    ]
    summary = summarise(heads, "enhancing_tumour")
    assert (summary.heads, summary.mean_dice, summary.median_dice, summary.lowest_dice) == (
        3,
        pytest.approx(0.4),
        pytest.approx(0.3),
        0,
    )
    assert (summary.median_hd95_mm, summary.lesions) == (pytest.approx(3), LesionScore(6, 3, 6, 3))
    assert (summary.lesion_free_heads, summary.lesion_free_ml) == (2, pytest.approx(1.0))


def test_nothing_to_measure_is_none_and_not_a_number() -> None:
    summary = summarise([scored(Variant.LESION_FREE, None, 0)], "enhancing_tumour")
    assert summary.mean_dice is None
    assert summarise([], "enhancing_tumour").lesion_free_ml is None


def test_training_seeds_are_refused(make_package: Callable[..., ModelPackage]) -> None:
    with pytest.raises(ValueError, match="seeds below 1000000 are for training"):
        evaluate(make_package(), 1, FIRST_HELD_OUT_SEED - 1, lambda _: None)


def test_scans_lie_on_grids_of_their_own_and_cover_the_lesion() -> None:
    head = synthesise(FIRST_HELD_OUT_SEED, Variant.UNIFOCAL, spacing_mm=4.0)
    volumes = scan_head(head, (Role.ADC, Role.FLAIR, Role.T1CE))
    assert list(volumes) == [Role.ADC, Role.FLAIR, Role.T1CE]
    assert len({volume.geometry.shape for volume in volumes.values()}) == 3
    whole = head.truth(head.geometry).sum(axis=(1, 2, 3)) * head.geometry.voxel_volume_mm3
    for volume in volumes.values():
        seen = head.truth(volume.geometry).sum(axis=(1, 2, 3)) * volume.geometry.voxel_volume_mm3
        assert seen[1] == pytest.approx(whole[1], rel=0.15)


class AdcThreshold(nn.Module):
    """Calls everything with an ADC between 1000 and 2600 a lesion: crude, but it finds real ones in the right place."""

    def forward(self, channels: Tensor) -> Tensor:
        adc = channels[:, :1] * ADC_SCALE
        return torch.where((adc > 1000) & (adc < 2600), 8.0, -8.0).expand(-1, 3, -1, -1, -1)


def test_a_head_is_walked_through_the_pipeline_to_the_t1ce_grid(make_package: Callable[..., ModelPackage]) -> None:
    head = synthesise(FIRST_HELD_OUT_SEED + 3, Variant.UNIFOCAL, spacing_mm=3.0)
    truth, found, geometry = segment_head(head, make_package(), AdcThreshold(), AlignSettings(resolution_mm=8))
    assert truth.shape == found.shape == (3, *geometry.shape)
    # Most of the lesion's voxels are found, so no axis is swapped or flipped on the way there and back.
    assert np.count_nonzero(found[1] & truth[1]) > 0.6 * np.count_nonzero(truth[1])


def test_evaluation_covers_the_variants_in_turn(make_package: Callable[..., ModelPackage]) -> None:
    seen: list[HeadScore] = []
    evaluation = evaluate(make_package(), 2, FIRST_HELD_OUT_SEED, seen.append, 4.0, AlignSettings(enabled=False))
    assert evaluation.heads == tuple(seen)
    assert [head.variant for head in seen] == list(Variant)[:2]
    assert [head.seed for head in seen] == [FIRST_HELD_OUT_SEED, FIRST_HELD_OUT_SEED + 1]
    means = [label.mean_dice for label in evaluation.labels]
    assert evaluation.mean_dice == pytest.approx(sum(mean for mean in means if mean is not None) / len(means))
