"""A SegResNet that takes and gives blocks of voxels. Imported only where a network is built: it needs MONAI."""

from typing import Any

from monai.networks.nets.segresnet import SegResNet
from monai.networks.utils import pixelshuffle, pixelunshuffle
from torch import Tensor


class BlockSegResNet(SegResNet):  # type: ignore[misc]
    """Of every block of `edge` voxels cubed, the voxels are channels of one place inside (Shi et al. 2016).

    Its weights have the names of a SegResNet's; the first and the last have edge^3 times the channels.
    """

    def __init__(self, edge: int, in_channels: int, out_channels: int, **settings: Any) -> None:
        super().__init__(in_channels=in_channels * edge**3, out_channels=out_channels * edge**3, **settings)
        self._edge = edge

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, slices, rows, columns) to (batch, out_channels, slices, rows, columns)."""
        logits: Tensor = super().forward(pixelunshuffle(x, 3, self._edge))
        voxels: Tensor = pixelshuffle(logits, 3, self._edge)
        return voxels
