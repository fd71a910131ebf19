"""One head is scanned, segmented through the steps of the pipeline, and scored by the stated conventions."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.labels import LABELS, Role
from models.package import ModelPackage
from models.training.evaluation.segment_head import scan_head, score_masks, segment_head
from models.training.synthetic.head import synthesise
from models.training.synthetic.samples import FIRST_HELD_OUT_SEED
from models.training.synthetic.tumour import Variant
from pipeline.align import AlignSettings
from pipeline.normalise import ADC_SCALE


def cube(start: int, stop: int) -> np.ndarray:
    mask = np.zeros((10, 10, 10), dtype=bool)
    mask[start:stop, :, :] = True
    return mask


def test_a_head_is_scored_label_by_label() -> None:
    truth = np.stack([cube(0, 0), cube(0, 4), cube(0, 2)])
    found = np.stack([cube(0, 1), cube(0, 4), cube(0, 1)])
    scores = score_masks(truth, found, spacing_mm=(10.0, 1.0, 1.0))
    assert [score.label for score in scores] == [label.name for label in LABELS]
    assert [score.dice for score in scores] == [0.0, 1.0, pytest.approx(2 / 3)]
    # 100 voxels of 10 mm3 a layer are 1 ml.
    assert [score.found_ml for score in scores] == pytest.approx([1, 4, 1])
    assert [score.true_ml for score in scores] == pytest.approx([0, 4, 2])


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
    walked = segment_head(head, make_package(), AdcThreshold(), AlignSettings(resolution_mm=8))
    assert walked.truth.shape == walked.found.shape == (3, *walked.t1ce.shape)
    # Most of the lesion's voxels are found, so no axis is swapped or flipped on the way there and back.
    assert np.count_nonzero(walked.found[1] & walked.truth[1]) > 0.6 * np.count_nonzero(walked.truth[1])
