"""Run the network over normalised channels."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from models.network import NetworkSettings
from pipeline.errors import OutputRefused

Network = Callable[[Tensor], Tensor]
"""Maps (1, channels, slices, rows, columns) to logits (1, labels, slices, rows, columns)."""


@dataclass(frozen=True, slots=True)
class SegmentSettings:
    """Settings of inference: up to which size the whole volume is segmented at once, and the sliding window.

    For a network over blocks of voxels, lengths are multiplied by the block's edge, as it needs no more memory for a
    block than another network for a voxel.
    """

    whole_volume_voxels: int = 12_000_000
    """Larger volumes are segmented by sliding window from the start. The default is about 230 mm cubed at 1 mm."""
    window: int = 128
    """Edge of the sliding window in voxels; a multiple of the network's stride."""
    overlap: float = 0.25
    """Fraction of the window that neighbouring windows share."""

    def for_blocks(self, edge: int) -> "SegmentSettings":
        """Return the settings for a network over blocks of `edge` voxels cubed."""
        return replace(self, whole_volume_voxels=self.whole_volume_voxels * edge**3, window=self.window * edge)


@dataclass(frozen=True, slots=True)
class Segmented:
    """Probabilities on the model's grid."""

    probabilities: Tensor
    """(labels, slices, rows, columns) float32, 0 to 1; each label has its own sigmoid, so labels may overlap."""
    device: str
    """Device that it ran on, and any fallback, such as "cuda, sliding window (GPU memory ran out)"."""


def segment(
    channels: Tensor,
    network_on: Callable[[torch.device], Network],
    device: torch.device,
    shape: NetworkSettings,
    settings: SegmentSettings = SegmentSettings(),
    window: int | None = None,
    mirror: bool = False,
) -> Segmented:
    """Compute the label probabilities of `channels` (channels, slices, rows, columns; normalised float32).

    `network_on` returns the network, of `shape`, on a device. A volume that is small enough is segmented as a whole;
    otherwise, or if memory runs out, by a sliding window with Gaussian weights, and if a GPU's memory runs out again,
    by one on the CPU. The probabilities are on the device that succeeded. A model that needs windows gives
    their edge as `window`. With `mirror`, logits are averaged with those of the mirror image, left to right.
    Raises torch.OutOfMemoryError if no attempt succeeds, and OutputRefused where a probability is no number.
    """
    settings = settings.for_blocks(shape.space_to_depth)
    if window is not None:
        settings = replace(settings, whole_volume_voxels=0, window=window)
    whole = channels[0].numel() <= settings.whole_volume_voxels
    attempts = [(device, True)] if whole else []
    attempts.append((device, False))
    if device.type != "cpu":
        attempts.append((torch.device("cpu"), False))
    for number, (where, at_once) in enumerate(attempts):
        try:
            probabilities = _run(
                channels.to(where), _with_mirror(network_on(where), mirror), shape.stride, at_once, settings
            )
        except torch.OutOfMemoryError:
            if number + 1 == len(attempts):
                raise
            if where.type == "cuda":
                torch.cuda.empty_cache()
            continue
        if not bool(torch.isfinite(probabilities).all()):
            # A NaN lies below every threshold, so that the label would be empty without a word.
            raise OutputRefused(
                f"The network returned values that are no numbers on {where.type}, so there is no result. Check the "
                "model package with `glionode models show`; if it is sound, run it on the CPU ([compute] device)."
            )
        method = "" if at_once else ", sliding window"
        reason = " (GPU memory ran out)" if (number and whole) or where.type != device.type else ""
        return Segmented(probabilities, f"{where.type}{method}{reason}")
    raise AssertionError("the last attempt either returns or raises")


def _with_mirror(network: Network, mirror: bool) -> Network:
    if not mirror:
        return network
    return lambda batch: (network(batch) + network(batch.flip(-1)).flip(-1)) / 2


def _run(channels: Tensor, network: Network, stride: int, at_once: bool, settings: SegmentSettings) -> Tensor:
    with torch.inference_mode():
        if not at_once:
            return _sliding_window(channels, network, settings)
        sizes = channels.shape[1:]
        padding = [amount for size in reversed(sizes) for amount in (0, -size % stride)]
        padded = functional.pad(channels, padding)  # 0 is the median of the head, and the value of missing voxels
        logits = network(padded[None])[0]
        return torch.sigmoid(logits[:, : sizes[0], : sizes[1], : sizes[2]]).float()


def _sliding_window(channels: Tensor, network: Network, settings: SegmentSettings) -> Tensor:
    from monai.inferers.utils import sliding_window_inference

    window = (settings.window,) * 3
    try:
        logits = sliding_window_inference(channels[None], window, 1, network, overlap=settings.overlap, mode="gaussian")
    except RuntimeError as exc:
        if "Seems to be OOM" in str(exc):  # MONAI raises it if memory for its weights runs out
            raise torch.OutOfMemoryError("no memory for the sliding window's weights") from exc
        raise
    assert isinstance(logits, Tensor)
    return torch.sigmoid(logits[0]).float()


def pick_device(name: str) -> torch.device:
    """Return the device called "auto", "cuda", "cuda:1" or "cpu"; "auto" is the GPU if there is one.

    Raises ValueError for another name and for a GPU that torch does not find.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise ValueError(f"device {name!r} is unknown; choose auto, cuda or cpu")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {name} is configured, but torch finds no such GPU; choose auto or cpu")
    return device
