"""Samples for processes of their own, which import this by name."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import IterableDataset


class LargeSamples(IterableDataset[Tensor]):
    """Samples without end that take a while to hand over."""

    def __init__(self, *_: object) -> None:
        pass

    def __iter__(self) -> Iterator[Tensor]:
        while True:
            yield torch.zeros(20_000_000)
