"""Prepare a network for inference on a device, in bfloat16 where that is sound there."""

import logging
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.group_norm import use_exact_group_norm
from models.package import ModelPackage

_LOG = logging.getLogger(__name__)

_CPU_BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
"""The instructions for products of bfloat16, by the names of `torch.cpu.get_capabilities`; x86, then ARM."""
_WORST_ERROR = 0.05
"""Mean error of the logits of the sample over their standard deviation."""
_MOST_FLIPPED = 0.02
"""Share of the sample's voxels whose label differs."""


@dataclass(frozen=True, slots=True)
class InferenceNetwork:
    """A network on a device, which maps (1, channels, slices, rows, columns) to logits of the same size."""

    module: nn.Module
    device: torch.device
    stride: int
    bfloat16: bool

    def __call__(self, batch: Tensor) -> Tensor:
        """Return the logits, float32 or bfloat16.

        A volume one stride wide is computed in float32: at the deepest level it is one voxel wide, where bfloat16
        convolutions are wrong on processors with AMX (https://github.com/pytorch/pytorch/issues/169688).
        """
        reduced = self.bfloat16 and batch.shape[-1] > self.stride
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=reduced):
            logits: Tensor = self.module(batch.bfloat16() if reduced else batch)
        return logits


def prepare(module: nn.Module, package: ModelPackage, device: torch.device, precision: str) -> InferenceNetwork:
    """Move `module`, the network of `package`, to `device` for inference; it must not be used otherwise after.

    `precision` is "float32", "bfloat16", or "auto": bfloat16 where the device has instructions for it. Unless it is
    float32, both are compared on a sample, and bfloat16 is not used where they disagree. Nothing is timed, so that a
    machine gives the same results under any load.
    """
    if device.type == "cpu":
        use_exact_group_norm(module)
    module = module.to(device).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    stride = package.network.stride
    exact = InferenceNetwork(module, device, stride, bfloat16=False)
    if precision == "float32" or (precision == "auto" and not has_bfloat16(device)):
        return exact
    reduced = InferenceNetwork(module, device, stride, bfloat16=True)
    sample = make_sample(len(package.channels), stride).to(device)
    if package.presence:  # of a complete study
        sample = torch.cat([sample, torch.ones_like(sample)], dim=1)
    if (problem := disagreement(exact(sample), reduced(sample), [each.threshold for each in package.labels])) is None:
        return reduced
    _LOG.warning("model %s runs in float32 on %s: in bfloat16 %s", package.name, device.type, problem)
    return exact


def has_bfloat16(device: torch.device) -> bool:
    """Return whether the device has instructions for products of bfloat16."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    capabilities = torch.cpu.get_capabilities()
    return any(bool(capabilities.get(name)) for name in _CPU_BFLOAT16)


def make_sample(channels: int, stride: int) -> Tensor:
    """Return a fixed input (1, channels, slices, rows, columns): noise with a bright ball in another place each.

    At the deepest level it is 3 x 2 x 2 voxels, less than any head: known faults are in small convolutions.
    """
    sizes = (3 * stride, 2 * stride, 2 * stride)
    sample = 0.3 * torch.randn(1, channels, *sizes, generator=torch.Generator().manual_seed(0))
    places = torch.meshgrid(*(torch.linspace(-1, 1, size) for size in sizes), indexing="ij")
    for channel in range(channels):
        middle = 0.3 * (channel - (channels - 1) / 2)
        sample[0, channel] += 3 * (sum((place - middle) ** 2 for place in places) < 0.2)
    return sample


def disagreement(exact: Tensor, reduced: Tensor, thresholds: list[float]) -> str | None:
    """Say how logits (1, labels, ...) in bfloat16 differ from those in float32; None if the labels can be believed."""
    reduced = reduced.float()
    if not bool(torch.isfinite(reduced).all()):
        return "its logits are not finite"
    error = float((reduced - exact).abs().mean() / exact.std().clamp(min=1e-6))
    limits = torch.logit(torch.tensor(thresholds, device=exact.device)).view(1, -1, 1, 1, 1)
    flipped = float(((reduced >= limits) != (exact >= limits)).float().mean())
    if error > _WORST_ERROR or flipped > _MOST_FLIPPED:
        return f"its logits are wrong by {error:.3g} standard deviations, and {100 * flipped:.2g} % of voxels differ"
    return None
