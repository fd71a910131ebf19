"""Segmenting with networks whose answer is known."""

import pytest
import torch
from torch import Tensor

from models.network import NetworkSettings
from pipeline.errors import OutputRefused
from pipeline.segment import Network, SegmentSettings, mean_with_mirror_image, pick_device, segment

CPU = torch.device("cpu")
SHAPE = NetworkSettings()


def logit_of_first_channel(batch: Tensor) -> Tensor:
    """Two labels: the first channel itself as a logit, and its negative."""
    assert all(size % 8 == 0 for size in batch.shape[2:]), "sizes must be padded to the stride"
    return torch.cat([batch[:, :1], -batch[:, :1]], dim=1)


def test_labels_are_independent_sigmoids_on_the_unpadded_grid() -> None:
    channels = torch.randn(3, 13, 17, 9, generator=torch.Generator().manual_seed(0))
    found = segment(channels, lambda device: logit_of_first_channel, CPU, SHAPE)
    assert found.device == "cpu"
    assert found.probabilities.shape == (2, 13, 17, 9)
    torch.testing.assert_close(found.probabilities[0], torch.sigmoid(channels[0]))
    torch.testing.assert_close(found.probabilities[1], torch.sigmoid(-channels[0]))


def test_a_large_volume_goes_through_a_sliding_window_with_the_same_answer() -> None:
    channels = torch.randn(3, 20, 36, 28, generator=torch.Generator().manual_seed(0))
    settings = SegmentSettings(whole_volume_voxels=1000, window=16)
    found = segment(channels, lambda device: logit_of_first_channel, CPU, SHAPE, settings)
    assert found.device == "cpu, sliding window"
    torch.testing.assert_close(found.probabilities[0], torch.sigmoid(channels[0]), atol=1e-5, rtol=1e-4)


def test_a_network_of_blocks_takes_volumes_and_windows_with_so_many_times_longer_edges() -> None:
    settings = SegmentSettings(whole_volume_voxels=4 * 5 * 6, window=16)
    blocks = NetworkSettings(space_to_depth=2)
    seen: list[int] = []

    def network(batch: Tensor) -> Tensor:
        seen.append(batch.shape[2])
        return logit_of_first_channel(batch)

    found = segment(torch.zeros(3, 8, 10, 12), lambda device: network, CPU, blocks, settings)
    assert found.device == "cpu"
    assert seen == [16]  # padded to the stride
    found = segment(torch.zeros(3, 8, 10, 13), lambda device: network, CPU, blocks, settings)
    assert found.device == "cpu, sliding window"
    assert set(seen[1:]) == {32}


def test_out_of_memory_falls_back_to_a_window_and_says_so() -> None:
    def short_of_memory(batch: Tensor) -> Tensor:
        if batch[0, 0].numel() > 16**3:
            raise torch.OutOfMemoryError("the GPU is full")
        return logit_of_first_channel(batch)

    channels = torch.randn(3, 24, 24, 24, generator=torch.Generator().manual_seed(0))
    found = segment(channels, lambda device: short_of_memory, CPU, SHAPE, SegmentSettings(window=16))
    assert found.device == "cpu, sliding window (GPU memory ran out)"
    torch.testing.assert_close(found.probabilities[0], torch.sigmoid(channels[0]), atol=1e-5, rtol=1e-4)


def test_a_full_gpu_falls_back_to_the_cpu_and_says_so() -> None:
    gpu = torch.device("meta")  # stands for a GPU: any device that is not the CPU

    def network_on(device: torch.device) -> Network:
        def full(batch: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("the GPU is full")

        return full if device == gpu else logit_of_first_channel

    channels = torch.randn(3, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    found = segment(channels, network_on, gpu, SHAPE, SegmentSettings(window=16))
    assert found.device == "cpu, sliding window (GPU memory ran out)"
    assert found.probabilities.device == CPU


def test_a_gpu_takes_both_mirror_images_at_once_and_then_each_by_itself() -> None:
    shapes = []

    def network_on(device: torch.device) -> Network:
        def full(batch: Tensor) -> Tensor:
            shapes.append((device.type, len(batch), batch.shape[-1]))
            raise torch.OutOfMemoryError("the GPU is full")

        return full

    channels = torch.zeros(3, 24, 24, 24)
    with pytest.raises(torch.OutOfMemoryError):
        segment(channels, network_on, torch.device("meta"), SHAPE, SegmentSettings(window=16), mirror=True)
    # MONAI makes no weights of windows on the device that stands for a GPU, and says that memory ran out.
    assert shapes == [("meta", 2, 24), ("meta", 1, 24), ("cpu", 1, 16)]


def test_running_out_of_memory_on_the_cpu_is_an_error() -> None:
    def full(batch: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("full")

    with pytest.raises(torch.OutOfMemoryError):
        segment(torch.zeros(3, 16, 16, 16), lambda device: full, CPU, SHAPE, SegmentSettings(window=16))


def test_a_network_that_returns_no_numbers_is_an_error_and_not_an_empty_result() -> None:
    def overflowed(batch: Tensor) -> Tensor:
        logits = logit_of_first_channel(batch)
        logits[0, 0, 3, 3, 3] = torch.nan
        return logits

    with pytest.raises(OutputRefused, match="no numbers on cpu"):
        segment(torch.zeros(3, 8, 8, 8), lambda device: overflowed, CPU, SHAPE)


def test_devices_by_name() -> None:
    assert pick_device("cpu") == CPU
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ValueError, match="unknown; choose auto, cuda or cpu"):
        pick_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no such GPU"):
            pick_device("cuda")


@pytest.mark.parametrize("window", [None, 16])
def test_a_model_that_asks_for_the_mirror_image_gets_the_mean_of_both(window: int | None) -> None:
    def leaning(batch: Tensor) -> Tensor:
        """Answers by the first channel on the left half of what it sees, with 0 on the right."""
        answer = batch[:, :1].clone()
        answer[..., answer.shape[-1] // 2 :] = 0
        return answer

    channels = torch.randn(3, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    plain = segment(channels, lambda device: leaning, CPU, SHAPE, window=window).probabilities[0]
    both = segment(channels, lambda device: leaning, CPU, SHAPE, window=window, mirror=True).probabilities[0]
    assert (plain[..., 8:] == 0.5).all()
    torch.testing.assert_close(both, torch.sigmoid(channels[0] / 2))


def test_the_mirror_image_in_the_same_batch_changes_nothing() -> None:
    def leaning(batch: Tensor) -> Tensor:
        return (batch[:, :2] * torch.linspace(0, 2, batch.shape[-1])).bfloat16()

    batch = torch.randn(1, 3, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    together = mean_with_mirror_image(leaning, in_one_batch=True)(batch)
    assert together.dtype is torch.float32
    assert torch.equal(together, mean_with_mirror_image(leaning, in_one_batch=False)(batch))
    torch.testing.assert_close(together, batch[:, :2], atol=0.03, rtol=0.01)


def test_a_volume_that_needs_padding_gives_a_result_of_its_own_memory() -> None:
    """A view would keep the padded volume, and be slow to read."""
    channels = torch.randn(3, 13, 17, 9, generator=torch.Generator().manual_seed(0))
    before = channels.clone()
    found = segment(channels, lambda device: logit_of_first_channel, CPU, SHAPE).probabilities
    assert found.is_contiguous()
    assert found.untyped_storage().nbytes() == found.numel() * found.element_size()
    assert torch.equal(channels, before)


def test_a_model_that_asks_for_windows_never_sees_the_whole() -> None:
    seen = []

    def watching(batch: Tensor) -> Tensor:
        seen.append(tuple(batch.shape[2:]))
        return logit_of_first_channel(batch)

    channels = torch.randn(3, 24, 40, 32, generator=torch.Generator().manual_seed(0))
    found = segment(channels, lambda device: watching, CPU, SHAPE, window=16)
    assert set(seen) == {(16, 16, 16)}
    assert found.device == "cpu, sliding window"
    torch.testing.assert_close(found.probabilities[0], torch.sigmoid(channels[0]), atol=1e-5, rtol=1e-4)
