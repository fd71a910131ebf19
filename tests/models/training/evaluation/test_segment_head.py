"""A head is scanned on unlike grids and segmented by the steps of the pipeline."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.labels import PAPER_LABELS, Role
from models.package import ModelPackage
from models.training.evaluation.segment_head import head_probabilities, scan_head
from models.training.synthetic.head import synthesise
from models.training.synthetic.samples import FIRST_HELD_OUT_SEED
from models.training.synthetic.tumour import Variant
from pipeline.align_settings import AlignSettings
from pipeline.normalise import ADC_SCALE
from pipeline.restore import restore


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


def test_a_head_is_segmented_on_its_own_grid_and_compared_on_that_of_t1ce(
    make_package: Callable[..., ModelPackage],
) -> None:
    head = synthesise(FIRST_HELD_OUT_SEED + 3, Variant.UNIFOCAL, spacing_mm=3.0)
    package = make_package()
    probabilities, grid, t1ce = head_probabilities(head, package, AdcThreshold(), AlignSettings(resolution_mm=8))
    found = restore(probabilities, grid, t1ce, (0.5,) * len(PAPER_LABELS))
    truth = head.truth(t1ce)
    assert truth.shape == found.shape == (3, *t1ce.shape)
    # Most of the lesion's voxels are found, so no axis is swapped or flipped on the way there and back.
    assert np.count_nonzero(found[1] & truth[1]) > 0.6 * np.count_nonzero(truth[1])
