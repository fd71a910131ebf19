"""The arithmetic of a network is that of its convolutions."""

from torch import nn

from benchmarks.network_floor import count_gflop


def test_gflop_of_two_convolutions() -> None:
    network = nn.Sequential(nn.Conv3d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv3d(8, 2, 1))
    voxels = 8 * 10 * 12
    # A multiplication and an addition for each weight at each voxel.
    expected = 2 * voxels * (3 * 8 * 27 + 8 * 2) / 1e9
    assert abs(count_gflop(network, (1, 3, 8, 10, 12)) / expected - 1) < 1e-9
