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
"""Maps (batch, channels, slices, rows, columns) to logits (batch, labels, slices, rows, columns)."""


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
    their edge as `window`. With `mirror`, logits are averaged with those of the mirror image, left to right; both are
    one batch on a GPU whose memory holds them, and two passes elsewhere.
    Raises torch.OutOfMemoryError if no attempt succeeds, and OutputRefused where a probability is no number.
    """
    settings = settings.for_blocks(shape.space_to_depth)
    if window is not None:
        settings = replace(settings, whole_volume_voxels=0, window=window)
    whole = channels[0].numel() <= settings.whole_volume_voxels
    attempts = _attempts(device, whole, mirror)
    for number, attempt in enumerate(attempts):
        try:
            network = network_on(attempt.device)
            if mirror:
                network = mean_with_mirror_image(network, attempt.both)
            probabilities = _run(channels.to(attempt.device), network, shape.stride, attempt.at_once, settings)
        except torch.OutOfMemoryError:
            if number + 1 == len(attempts):
                raise
            if attempt.device.type == "cuda":
                torch.cuda.empty_cache()
            continue
        if not bool(torch.isfinite(probabilities.sum())):
            # A NaN lies below every threshold, so that the label would be empty without a word.
            raise OutputRefused(
                f"The network returned values that are no numbers on {attempt.device.type}, so there is no result. "
                "Check the model package with `glionode models show`; if it is sound, run it on the CPU ([compute] "
                "device)."
            )
        reason = " (GPU memory ran out)" if (number and whole) or attempt.device.type != device.type else ""
        return Segmented(probabilities, f"{attempt.device.type}{attempt.method}{reason}")
    raise AssertionError("the last attempt either returns or raises")


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A way to run the network, which may need more memory than there is."""

    device: torch.device
    at_once: bool
    """Whether the whole volume is segmented at once."""
    both: bool
    """Whether the volume and its mirror image are one batch."""
    method: str
    """Its words for the report; empty for the usual way."""


def _attempts(device: torch.device, whole: bool, mirror: bool) -> list[_Attempt]:
    """Return the ways to try, the fastest first."""
    both = whole and mirror and device.type != "cpu"
    found = [_Attempt(device, at_once=True, both=True, method="")] if both else []
    if whole:
        found.append(_Attempt(device, at_once=True, both=False, method=", mirror image by itself" if both else ""))
    devices = [device] if device.type == "cpu" else [device, torch.device("cpu")]
    return found + [_Attempt(each, at_once=False, both=False, method=", sliding window") for each in devices]


def mean_with_mirror_image(network: Network, in_one_batch: bool) -> Network:
    """Return a network whose logits are the mean, in float32, of those of its input and of the input's mirror image."""

    def mean(batch: Tensor) -> Tensor:
        if in_one_batch:
            logits = network(torch.cat([batch, batch.flip(-1)]))
            return logits[:1].float().add_(logits[1:].flip(-1)).mul_(0.5)
        return network(batch).float().add_(network(batch.flip(-1)).flip(-1)).mul_(0.5)

    return mean


def _run(channels: Tensor, network: Network, stride: int, at_once: bool, settings: SegmentSettings) -> Tensor:
    with torch.inference_mode():
        if not at_once:
            return _sliding_window(channels, network, settings)
        sizes = channels.shape[1:]
        padding = [amount for size in reversed(sizes) for amount in (0, -size % stride)]
        # 0 is the median of the head, and the value of missing voxels
        padded = functional.pad(channels, padding) if any(padding) else channels
        logits = network(padded[None])[0]
        return logits[:, : sizes[0], : sizes[1], : sizes[2]].float().contiguous().sigmoid_()


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
    return logits[0].float().contiguous().sigmoid_()


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
