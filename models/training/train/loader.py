"""Batches of an epoch for one of several processes, from any step on. Knows no case's content."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch.utils.data import DataLoader

from models.training.train.crops import Batch, CaseCrops, Place, epoch_places
from models.training.train.settings import TrainSettings
from models.training.train.worker_init import START_METHOD, begin_making_samples


@dataclass(frozen=True, slots=True)
class Share:
    """Which of several training processes this is."""

    rank: int = 0
    processes: int = 1


class _Places:
    """What torch's loader takes for a sampler of batches: a list that is set before each pass."""

    def __init__(self) -> None:
        self.batches: list[list[Place]] = []

    def __iter__(self) -> Iterator[list[Place]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class CaseLoader:
    """One epoch's batches at each pass, the next epoch's at the next.

    `state_dict` says how many batches were handed out, not how many a worker prepared ahead, so that a run that was
    killed goes on with the very next. Lightning saves and restores it with its checkpoints.
    """

    def __init__(self, crops: CaseCrops, cases: int, settings: TrainSettings, share: Share = Share()) -> None:
        self._cases = cases
        self._settings = settings
        self._share = share
        self._epoch = 0
        self._handed_out = 0
        self._resumed = False
        self._places = _Places()
        self._loader: DataLoader[Batch] = DataLoader(
            crops,
            batch_sampler=self._places,
            num_workers=settings.workers,
            multiprocessing_context=START_METHOD if settings.workers else None,
            worker_init_fn=begin_making_samples if settings.workers else None,
            persistent_workers=settings.workers > 0,
        )

    def __len__(self) -> int:
        """Steps in an epoch."""
        return steps_in_epoch(self._cases, self._settings, self._share.processes)

    def __iter__(self) -> Iterator[Batch]:
        """The rest of the epoch that was restored, else the epoch after the one before."""
        if not self._resumed and self._handed_out:
            self._epoch, self._handed_out = self._epoch + 1, 0
        self._resumed = False
        self._places.batches = self._batches(self._epoch)[self._handed_out :]
        for batch in self._loader:
            self._handed_out += 1
            yield batch

    def _batches(self, epoch: int) -> list[list[Place]]:
        places = epoch_places(epoch, self._cases, self._settings)
        batch, processes = self._settings.batch, self._share.processes
        # Where the last step is not full, it is filled from the epoch's beginning; each crop is a new one.
        whole = len(self) * batch * processes
        places += [Place(epoch, len(places) + n, places[n % len(places)].case) for n in range(whole - len(places))]
        first = self._share.rank * batch
        return [places[step + first : step + first + batch] for step in range(0, whole, batch * processes)]

    def state_dict(self) -> dict[str, int]:
        """Where the run stands."""
        return {"epoch": self._epoch, "handed_out": self._handed_out}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from there at the next pass."""
        self._epoch, self._handed_out = state["epoch"], state["handed_out"]
        self._resumed = self._handed_out < len(self)


def steps_in_epoch(cases: int, settings: TrainSettings, processes: int) -> int:
    """Optimiser steps of an epoch, the last one filled up."""
    return -(-cases * settings.crops_per_case // (settings.batch * processes))
