"""A SegResNet over blocks of voxels. Needs MONAI, so it is imported only when a network is built."""

from typing import Any

from monai.networks.nets.segresnet import SegResNet
from monai.networks.utils import pixelshuffle, pixelunshuffle
from torch import Tensor


class BlockSegResNet(SegResNet):  # type: ignore[misc]
    """A SegResNet whose channels are the voxels of blocks, `edge` voxels cubed (Shi et al. 2016).

    Its weights have the same names as those of a SegResNet; the first and last layers have edge^3 times the channels.
    """

    def __init__(self, edge: int, in_channels: int, out_channels: int, **settings: Any) -> None:
        super().__init__(in_channels=in_channels * edge**3, out_channels=out_channels * edge**3, **settings)
        self._edge = edge

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, in_channels, slices, rows, columns) to logits (batch, out_channels, slices, rows, columns)."""
        logits: Tensor = super().forward(pixelunshuffle(x, 3, self._edge))
        voxels: Tensor = pixelshuffle(logits, 3, self._edge)
        return voxels
