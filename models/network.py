"""Describe and build the network: a SegResNet with the shape that `model.toml` gives."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import nn  # light commands read NetworkSettings and need no torch


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """The shape of a SegResNet (Myronenko 2018, https://arxiv.org/abs/1810.11654)."""

    init_filters: int = 16
    """Feature maps at full resolution; doubled by each down-sampling."""
    blocks_down: tuple[int, ...] = (1, 2, 2, 4)
    """Residual blocks at each level of the encoder; their number is the number of levels."""
    blocks_up: tuple[int, ...] = (1, 1, 1)
    """Residual blocks at each level of the decoder; one entry fewer than `blocks_down`."""
    upsample_mode: Literal["deconv", "pixelshuffle", "nontrainable"] = "nontrainable"
    """How the decoder doubles the resolution; `nontrainable` is trilinear."""
    space_to_depth: int = 1
    """Edge, in voxels, of the blocks whose voxels become channels at the input and are unfolded at the output (Shi et
    al. 2016, https://arxiv.org/abs/1609.05158). With 2, structures one voxel thin take an eighth of the time."""

    def __post_init__(self) -> None:
        if len(self.blocks_up) != len(self.blocks_down) - 1:
            raise ValueError(
                f"blocks_up has {len(self.blocks_up)} entries, blocks_down {len(self.blocks_down)}: it needs one fewer"
            )
        if self.init_filters % 8:
            raise ValueError(f"init_filters is {self.init_filters}: SegResNet's group norm needs a multiple of 8")
        if self.space_to_depth < 1:
            raise ValueError(f"space_to_depth is {self.space_to_depth}; it must be at least 1")

    @property
    def description(self) -> str:
        """The shape in words, for model cards."""
        down, up = list(self.blocks_down), list(self.blocks_up)
        words = f"SegResNet, {self.init_filters} initial filters, blocks down {down}, up {up}"
        if self.space_to_depth == 1:
            return words
        return f"{words}, over blocks of {self.space_to_depth} voxels cubed (space to depth)"

    @property
    def stride(self) -> int:
        """The number that input sizes must be a multiple of: 2 ** down-samplings * `space_to_depth`."""
        return int(self.space_to_depth * 2 ** (len(self.blocks_down) - 1))


def build_network(settings: NetworkSettings, in_channels: int, out_channels: int) -> "nn.Module":
    """Build a SegResNet with random weights.

    It maps a float tensor (batch, in_channels, slices, rows, columns), each size a multiple of `settings.stride`, to
    logits (batch, out_channels, slices, rows, columns). Each channel has its own sigmoid, as labels overlap.
    """
    from models.segresnet import BlockSegResNet, SegResNet

    shape: dict[str, Any] = {
        "init_filters": settings.init_filters,
        "blocks_down": settings.blocks_down,
        "blocks_up": settings.blocks_up,
        "upsample_mode": settings.upsample_mode,
    }
    if settings.space_to_depth == 1:
        return SegResNet(in_channels, out_channels, **shape)
    return BlockSegResNet(settings.space_to_depth, in_channels, out_channels, **shape)


def count_parameters(network: "nn.Module") -> int:
    """Return the number of trainable values."""
    return sum(parameter.numel() for parameter in network.parameters())
