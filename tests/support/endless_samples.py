"""Samples for worker processes, which import this module by name."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import IterableDataset


class LargeSamples(IterableDataset[Tensor]):
    """Endless samples so large that handing one over takes a while."""

    def __init__(self, *_: object) -> None:
        pass

    def __iter__(self) -> Iterator[Tensor]:
        while True:
            yield torch.zeros(20_000_000)
