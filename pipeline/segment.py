"""Run the network over normalised channels. Knows no roles, no geometry and no files."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from models.network import NetworkSettings

Network = Callable[[Tensor], Tensor]
"""Maps (1, channels, slices, rows, columns) to logits (1, labels, slices, rows, columns)."""


@dataclass(frozen=True, slots=True)
class SegmentSettings:
    """When the whole volume goes through the network at once, and what else is done.

    For a network that takes blocks of voxels, edges are so many times longer: it needs no more memory for a block.
    """

    whole_volume_voxels: int = 12_000_000
    """Larger volumes are segmented by sliding window from the start (about 230 mm cubed at 1 mm)."""
    window: int = 128
    """Edge of the sliding window in voxels; a multiple of the network's stride."""
    overlap: float = 0.25
    """Fraction of the window that neighbouring windows share."""

    def in_blocks(self, edge: int) -> "SegmentSettings":
        """For a network that takes blocks of `edge` voxels cubed."""
        return replace(self, whole_volume_voxels=self.whole_volume_voxels * edge**3, window=self.window * edge)


@dataclass(frozen=True, slots=True)
class Segmented:
    """Probabilities on the model's grid."""

    probabilities: Tensor
    """(labels, slices, rows, columns) float32, 0 to 1; one sigmoid a label, so that labels may overlap."""
    device: str
    """Where it ran, and what had to be given up: "cuda", "cpu", "cuda, sliding window (GPU memory ran out)"..."""


def segment(
    channels: Tensor,
    network_on: Callable[[torch.device], Network],
    device: torch.device,
    shape: NetworkSettings,
    settings: SegmentSettings = SegmentSettings(),
    window: int | None = None,
    mirror: bool = False,
) -> Segmented:
    """Label probabilities of `channels` (channels, slices, rows, columns; normalised float32).

    `network_on` gives the network, of `shape`, on a device. The whole volume is tried first where it is small enough,
    then a sliding window with Gaussian weights; where a GPU runs out of memory the window moves to the CPU.
    Probabilities come back on the CPU or, where the GPU managed, on it. `window` is the edge that a model asks for
    instead of the whole; with `mirror`, logits are the mean of those of the head and of its mirror image, left to
    right.
    """
    settings = settings.in_blocks(shape.space_to_depth)
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
                channels.to(where), _network(network_on(where), mirror), shape.stride, at_once, settings
            )
        except torch.OutOfMemoryError:
            if number + 1 == len(attempts):
                raise
            if where.type == "cuda":
                torch.cuda.empty_cache()
            continue
        way = "" if at_once else ", sliding window"
        reason = " (GPU memory ran out)" if (number and whole) or where.type != device.type else ""
        return Segmented(probabilities, f"{where.type}{way}{reason}")
    raise AssertionError("the last attempt either returns or raises")


def _network(network: Network, mirror: bool) -> Network:
    if not mirror:
        return network
    return lambda batch: (network(batch) + network(batch.flip(-1)).flip(-1)) / 2


def _run(channels: Tensor, network: Network, stride: int, at_once: bool, settings: SegmentSettings) -> Tensor:
    with torch.inference_mode():
        if not at_once:
            return _sliding_window(channels, network, settings)
        sizes = channels.shape[1:]
        padding = [amount for size in reversed(sizes) for amount in (0, -size % stride)]
        padded = functional.pad(channels, padding)  # 0 is the median of the head and the value of what is missing
        logits = network(padded[None])[0]
        return torch.sigmoid(logits[:, : sizes[0], : sizes[1], : sizes[2]]).float()


def _sliding_window(channels: Tensor, network: Network, settings: SegmentSettings) -> Tensor:
    from monai.inferers.utils import sliding_window_inference

    window = (settings.window,) * 3
    try:
        logits = sliding_window_inference(channels[None], window, 1, network, overlap=settings.overlap, mode="gaussian")
    except RuntimeError as exc:
        if "Seems to be OOM" in str(exc):  # MONAI hides running out of memory for its weights in a plain RuntimeError
            raise torch.OutOfMemoryError("no memory for the sliding window's weights") from exc
        raise
    assert isinstance(logits, Tensor)
    return torch.sigmoid(logits[0]).float()


def pick_device(name: str) -> torch.device:
    """The device called "auto", "cuda", "cuda:1" or "cpu"; "auto" is the GPU where there is one.

    Raises ValueError for another name, and for a GPU that torch does not find.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise ValueError(f"device {name!r} is unknown; choose auto, cuda or cpu")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {name} was asked for, but torch finds no such GPU; choose auto or cpu")
    return device
