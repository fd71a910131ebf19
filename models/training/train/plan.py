"""Describe what a training run computes, and the values that a checkpoint must share with it to be resumed."""

from dataclasses import asdict, dataclass, field

from models.network import NetworkSettings
from models.training.train.settings import TrainSettings
from models.training.train.sources import CaseSource
from models.training.train.transfer import ORIGIN

_FREE_TO_CHANGE = {
    *("minutes", "patience", "steps_per_epoch", "tuning_heads", "checkpoint_every"),
    *("workers", "cache", "threads", "deterministic"),
}
"""Settings of a run on a data set that may change when it is resumed: none of them changes what it computes."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that determines the numbers that a run computes."""

    source: CaseSource
    network: NetworkSettings
    window: int | None
    settings: TrainSettings
    fold: int = 0
    """Which fold is left out, from 1; 0 if the data set's own splits are used."""
    origin: dict[str, str] = field(default_factory=dict)
    """Where the first weights come from, by `ORIGIN`; empty for a fresh network."""

    def signature(self) -> dict[str, str]:
        """Return the values, by name, that a checkpoint must share with the run that resumes it."""
        view = self.source.view
        signature = {
            "channels": " ".join(view.channels),
            "labels": " ".join(view.labels),
            "presence": str(view.presence),
            "spacing_mm": str(view.spacing_mm),
            "window": str(self.window),
            "data set": self.source.identity,
            "fold": str(self.fold),
            **{name: self.origin.get(name, "none") for name in ORIGIN},
        }
        if self.source.endless:
            return signature | {"steps_per_epoch": str(self.settings.steps_per_epoch)}
        settings = {name: str(value) for name, value in asdict(self.settings).items() if name not in _FREE_TO_CHANGE}
        return settings | signature | {"network": str(self.network)}
