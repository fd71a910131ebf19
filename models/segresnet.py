"""SegResNet (Myronenko 2018, https://arxiv.org/abs/1810.11654) in plain torch, with the weights of MONAI's by name.

Training builds MONAI's own class (`models.training.train.monai_segresnet`); this one serves what it learned. The two
are compared for equality of bits by a test. Importing MONAI's class imports all of MONAI, with matplotlib, pandas and
scikit-learn where they are installed: 1.5 s of a case that takes 5 s.
"""

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

_GROUPS = 8


class SegResNet(nn.Module):
    """Maps (batch, in_channels, slices, rows, columns) to logits (batch, out_channels, slices, rows, columns).

    The arguments are those of `models.network.NetworkSettings`. Weights are created in the order of MONAI's class, so
    the same seed gives the same ones.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        init_filters: int,
        blocks_down: tuple[int, ...],
        blocks_up: tuple[int, ...],
        upsample_mode: str,
    ) -> None:
        super().__init__()
        self.convInit = _convolution(in_channels, init_filters)  # this name and those below are MONAI's
        self.down_layers, self.up_layers, self.up_samples = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for level, blocks in enumerate(blocks_down):
            width = init_filters * 2**level
            halve = _convolution(width // 2, width, stride=2) if level else nn.Identity()
            self.down_layers.append(nn.Sequential(halve, *(_ResBlock(width) for _ in range(blocks))))
        for level, blocks in zip(reversed(range(len(blocks_up))), blocks_up, strict=True):
            width = init_filters * 2**level
            self.up_layers.append(nn.Sequential(*(_ResBlock(width) for _ in range(blocks))))
            narrow = _convolution(2 * width, width, kernel=1)
            self.up_samples.append(nn.Sequential(narrow, _doubling(upsample_mode, width)))
        self.conv_final = nn.Sequential(
            nn.GroupNorm(_GROUPS, init_filters),
            nn.ReLU(inplace=True),
            _convolution(init_filters, out_channels, kernel=1, bias=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of a batch."""
        x = self.convInit(x)
        levels = []
        for layer in self.down_layers:
            x = layer(x)
            levels.append(x)
        levels.pop()
        for double, layer in zip(self.up_samples, self.up_layers, strict=True):
            x = layer(double(x) + levels.pop())
        logits: Tensor = self.conv_final(x)
        return logits


class BlockSegResNet(SegResNet):
    """A SegResNet whose channels are the voxels of blocks, `edge` voxels cubed (Shi et al. 2016).

    Its weights have the same names as those of a SegResNet; the first and last layers have edge^3 times the channels.
    """

    def __init__(self, edge: int, in_channels: int, out_channels: int, **shape: Any) -> None:
        super().__init__(in_channels * edge**3, out_channels * edge**3, **shape)
        self._edge = edge

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of a batch."""
        return _blocks_to_voxels(super().forward(_voxels_to_blocks(x, self._edge)), self._edge)


class _ResBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(_GROUPS, width), nn.GroupNorm(_GROUPS, width)
        self.act = nn.ReLU(inplace=True)
        self.conv1, self.conv2 = _convolution(width, width), _convolution(width, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv1(self.act(self.norm1(x)))
        y = self.conv2(self.act(self.norm2(y)))
        y += x
        return y


class _Subpixel(nn.Module):
    """Doubles the size by a convolution to the voxels of blocks, and averages them (Aitken et al. 2017)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_block = nn.Conv3d(width, 8 * width, 3, padding=1)
        # ICNR: the voxels of a block start with the same kernel. The order of axes is MONAI's.
        kernel: Tensor = nn.init.kaiming_normal_(torch.zeros(width, width, 3, 3, 3))
        kernel = kernel.transpose(0, 1).reshape(width, width, -1).repeat(1, 1, 8)
        with torch.no_grad():
            self.conv_block.weight.copy_(kernel.reshape(width, 8 * width, 3, 3, 3).transpose(0, 1))
        self.pad_pool = nn.Sequential(nn.ConstantPad3d((1, 0, 1, 0, 1, 0), 0.0), nn.AvgPool3d(2, stride=1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.pad_pool(_blocks_to_voxels(self.conv_block(x), 2))
        return y


def _convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, bias: bool = False) -> nn.Module:
    layer = nn.Conv3d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=bias)
    return nn.Sequential(OrderedDict(conv=layer))


def _doubling(mode: str, width: int) -> nn.Module:
    """Return what doubles slices, rows and columns, under the name that its weights have."""
    layers: dict[str, nn.Module]
    if mode == "deconv":
        layers = {"deconv": nn.ConvTranspose3d(width, width, 2, stride=2)}
    elif mode == "pixelshuffle":
        layers = {"pixelshuffle": _Subpixel(width)}
    else:
        layers = {"upsample_non_trainable": nn.Upsample(scale_factor=2, mode="trilinear", align_corners=False)}
    return nn.Sequential(OrderedDict(layers))


def _voxels_to_blocks(x: Tensor, edge: int) -> Tensor:
    """Make the voxels of blocks channels: (batch, c, s, r, k) to (batch, c * edge^3, s / edge, r / edge, k / edge)."""
    batch, channels, *sizes = x.shape
    slices, rows, columns = (size // edge for size in sizes)
    blocks = x.reshape(batch, channels, slices, edge, rows, edge, columns, edge).permute(0, 1, 3, 5, 7, 2, 4, 6)
    return blocks.reshape(batch, channels * edge**3, slices, rows, columns)


def _blocks_to_voxels(x: Tensor, edge: int) -> Tensor:
    """Put the voxels of blocks back in their places: the inverse of `_voxels_to_blocks`."""
    batch, channels, slices, rows, columns = x.shape
    blocks = x.reshape(batch, channels // edge**3, edge, edge, edge, slices, rows, columns)
    voxels = blocks.permute(0, 1, 5, 2, 6, 3, 7, 4)
    return voxels.reshape(batch, channels // edge**3, slices * edge, rows * edge, columns * edge)
