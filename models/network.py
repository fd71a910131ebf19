"""The network: MONAI's SegResNet, shaped by `model.toml`. Knows no package files and no volumes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

if TYPE_CHECKING:
    from torch import nn  # light commands read NetworkSettings and need no torch


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """The shape of a SegResNet (Myronenko 2018, https://arxiv.org/abs/1810.11654)."""

    init_filters: int = 16
    """Feature maps at full resolution; doubled at each down-sampling."""
    blocks_down: tuple[int, ...] = (1, 2, 2, 4)
    """Residual blocks at each level on the way down; the number of levels follows."""
    blocks_up: tuple[int, ...] = (1, 1, 1)
    """Residual blocks at each level on the way up; one entry fewer than `blocks_down`."""
    upsample_mode: Literal["deconv", "pixelshuffle", "nontrainable"] = "nontrainable"
    """How the way up doubles the resolution; `nontrainable` is trilinear."""
    space_to_depth: int = 1
    """Edge, in voxels, of the blocks whose voxels enter the network, and leave it, as channels of one place (Shi et al.
    2016, https://arxiv.org/abs/1609.05158). 2 sees and draws what is one voxel thin in an eighth of the time."""

    def __post_init__(self) -> None:
        if len(self.blocks_up) != len(self.blocks_down) - 1:
            raise ValueError(
                f"blocks_up has {len(self.blocks_up)} entries, blocks_down {len(self.blocks_down)}: it wants one fewer"
            )
        if self.init_filters % 8:
            raise ValueError(f"init_filters is {self.init_filters}: SegResNet's group norm wants a multiple of 8")
        if self.space_to_depth < 1:
            raise ValueError(f"space_to_depth is {self.space_to_depth}: at least 1")

    @property
    def in_words(self) -> str:
        """What a model card says of it."""
        down, up = list(self.blocks_down), list(self.blocks_up)
        words = f"SegResNet, {self.init_filters} initial filters, blocks down {down}, up {up}"
        if self.space_to_depth == 1:
            return words
        return f"{words}, over blocks of {self.space_to_depth} voxels cubed (space to depth)"

    @property
    def stride(self) -> int:
        """Input sizes must be multiples of this: 2 to the number of down-samplings, times `space_to_depth`."""
        return int(self.space_to_depth * 2 ** (len(self.blocks_down) - 1))


def build_network(settings: NetworkSettings, in_channels: int, out_channels: int) -> "nn.Module":
    """A SegResNet with fresh weights.

    It maps a float tensor (batch, in_channels, slices, rows, columns), each size a multiple of `settings.stride`, to
    logits (batch, out_channels, slices, rows, columns). One sigmoid per channel: the labels overlap.
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
        from models.block_segresnet import BlockSegResNet

        return cast("nn.Module", BlockSegResNet(settings.space_to_depth, **shape))
    from monai.networks.nets.segresnet import SegResNet

    return cast("nn.Module", SegResNet(**shape))


def count_parameters(network: "nn.Module") -> int:
    """Number of learned values."""
    return sum(parameter.numel() for parameter in network.parameters())
