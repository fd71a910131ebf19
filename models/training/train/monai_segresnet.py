"""Build MONAI's SegResNet for training. `models.segresnet` is the same network without MONAI, for serving."""

from typing import Any, cast

from monai.networks.nets.segresnet import SegResNet
from monai.networks.utils import pixelshuffle, pixelunshuffle
from torch import Tensor, nn

from models.network import NetworkSettings


def monai_segresnet(settings: NetworkSettings, in_channels: int, out_channels: int) -> nn.Module:
    """Build the network of `models.network.build_network` of MONAI's parts, with random weights.

    Names, order and shapes of the weights are the same, and so are the logits, so that each loads what the other saved.
    """
    shape: dict[str, Any] = {
        "spatial_dims": 3,
        "init_filters": settings.init_filters,
        "in_channels": in_channels,
        "out_channels": out_channels,
        "blocks_down": settings.blocks_down,
        "blocks_up": settings.blocks_up,
        "upsample_mode": settings.upsample_mode,
    }
    if settings.space_to_depth > 1:
        return _BlockSegResNet(settings.space_to_depth, **shape)
    return cast("nn.Module", SegResNet(**shape))


class _BlockSegResNet(SegResNet):  # type: ignore[misc]
    """A SegResNet whose channels are the voxels of blocks, `edge` voxels cubed (Shi et al. 2016)."""

    def __init__(self, edge: int, in_channels: int, out_channels: int, **shape: Any) -> None:
        super().__init__(in_channels=in_channels * edge**3, out_channels=out_channels * edge**3, **shape)
        self._edge = edge

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, in_channels, slices, rows, columns) to logits (batch, out_channels, slices, rows, columns)."""
        logits: Tensor = super().forward(pixelunshuffle(x, 3, self._edge))
        voxels: Tensor = pixelshuffle(logits, 3, self._edge)
        return voxels
