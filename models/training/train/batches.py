"""Batches of one epoch after the other for one of several training processes, from any step on."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """Samples of a step. One sample has the same fields, without the first axis."""

    channels: Tensor
    """The network's input: (batch, channels, slices, rows, columns) float32, with presence planes if it takes them."""
    truth: Tensor
    """(batch, labels, slices, rows, columns) float32, 0 to 1; 0 where it is not known."""
    known: Tensor
    """(batch, labels) bool: whether somebody looked for the label in the sample's case. Absent is not empty."""


EpochBatches = Callable[[int, int], Iterator[Batch]]
"""Called with an epoch, from 0, and a step, from 0: returns the batches of that epoch from that step on."""


@dataclass(frozen=True, slots=True)
class ProcessRank:
    """Which of several training processes this is."""

    number: int = 0
    processes: int = 1


ALONE = ProcessRank()


class EpochLoader:
    """The data loader that Lightning iterates over: each pass yields one epoch, the next pass the next one.

    `state_dict` counts the batches that were handed out, not those that a worker prepared ahead, so that a run that was
    killed goes on with the very next one. Lightning saves and restores it with its checkpoints.
    """

    def __init__(self, steps: int, batches: EpochBatches) -> None:
        self._steps = steps
        self._batches = batches
        self._epoch = 0
        self._handed_out = 0
        self._resumed = False

    def __len__(self) -> int:
        """Return the steps of an epoch."""
        return self._steps

    def __iter__(self) -> Iterator[Batch]:
        """Yield the rest of the epoch that was restored, else all of the next epoch."""
        if not self._resumed and self._handed_out:
            self._epoch, self._handed_out = self._epoch + 1, 0
        self._resumed = False
        for batch in self._batches(self._epoch, self._handed_out):
            self._handed_out += 1
            yield batch

    def close(self) -> None:
        """Let go of the batches; their worker processes end."""
        del self._batches

    def state_dict(self) -> dict[str, int]:
        """Return the epoch, and how many of its batches were handed out."""
        return {"epoch": self._epoch, "handed_out": self._handed_out}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from `state` at the next pass."""
        self._epoch, self._handed_out = state["epoch"], state["handed_out"]
        self._resumed = self._handed_out < len(self)
