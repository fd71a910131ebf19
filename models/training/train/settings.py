"""The settings of a training run: presets, the configuration file, and checks. Imports no torch."""

import json
import tomllib
from dataclasses import MISSING, dataclass, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, get_type_hints

from models.network import NetworkSettings


class Preset(StrEnum):
    """A recipe: the settings from which a run starts."""

    PAPER = "paper"
    """Wan et al. 2024: Adam at 1e-4, cosine annealing, Dice and cross-entropy in equal parts."""
    FAST = "fast"
    """For recent GPUs: bfloat16, channels last, larger crops around lesions, a warm-up to a higher rate."""
    SYNTHETIC = "synthetic"
    """For synthetic heads: whole heads, bfloat16, weights averaged over the steps, a loss that values thin rims."""


class Cache(StrEnum):
    """Where normalised cases are kept between epochs."""

    NONE = "none"
    RAM = "ram"
    DISK = "disk"


class SettingsContradict(ValueError):
    """A run cannot be trained with these settings; the message is one sentence without a full stop."""


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """The settings of one training run. All of them can be set in a configuration file, see `read_config`."""

    preset: Preset
    """The preset that the other values started from; recorded in the package."""
    epochs: int
    """Passes over the training cases; with synthetic heads, blocks of `steps_per_epoch` steps."""
    minutes: float | None = None
    """Wall-clock limit of this run; the learning rate reaches its end by then. None: `epochs` alone decides."""
    steps_per_epoch: int = 100
    """Steps that count as an epoch of synthetic heads. A data set's epoch is one pass over its cases."""
    patience: int = 0
    """Stop after so many epochs without a better mean validation Dice; 0 never stops early."""
    learning_rate: float = 1e-4
    """Peak learning rate of Adam; half a cosine takes it down from there by the last step."""
    lowest_rate: float = 0.0
    """What is left of the learning rate at the last step, as a share of its peak."""
    warm_up_epochs: float = 0.0
    """Epochs in which the learning rate rises to its peak."""
    clip_gradients: float = 0.0
    """Longer gradients are scaled down to this norm; 0 leaves them as they are."""
    average_weights: bool = False
    """Validate and save an exponential mean of the weights over the steps."""
    batch: int = 1
    """Crops in a step of one process."""
    patch: int = 128
    """Edge of the cubic crops in voxels; 0 takes whole heads, one a step. With synthetic heads, the mean edge."""
    foreground: float = 0.0
    """Share of the crops that are placed around a voxel of a label."""
    crops_per_case: int = 1
    """Crops of each case in an epoch."""
    flip: bool = True
    """Mirror half of the crops left to right."""
    intensity: float = 0.1
    """Weighted images are scaled and shifted by up to so much; ADC, which is quantitative, is not."""
    low_resolution: float = 0.0
    """Share of the crops in which one channel looks as if its slices were thick or its voxels large."""
    drop_channels: float = 0.0
    """Share of the samples that lose channels, after normalising: at least one, never all."""
    enhancing_weight: float = 1.0
    """Weight of the enhancing tumour's Dice in the loss; the other labels weigh 1."""
    dice_power: int = 1
    """Power of probabilities and truth in the denominator of the Dice loss."""
    dice_smoothing: float = 100.0
    """Voxels added to numerator and denominator of the Dice loss."""
    dice_smoothing_absent: float = 100.0
    """The same for a label that does not occur in the batch."""
    synthetic_share: float = 0.0
    """Share of the steps on a data set that train on synthetic heads; each case is still seen once an epoch."""
    tuning_heads: int = 10
    """Synthetic heads on which the thresholds are chosen after training; 0 leaves all thresholds at 0.5."""
    precision: str = "32-true"
    """Arithmetic, as Lightning names it; weights stay float32."""
    channels_last: bool = False
    """Lay tensors out in the memory order in which GPUs convolve faster."""
    seed: int = 1
    """Seed of weights, crops and synthetic heads."""
    deterministic: bool = False
    """Use only operations that give the same numbers every time; on CPUs all do."""
    devices: int = 1
    """Training processes on this machine, one for each GPU where there are GPUs."""
    nodes: int = 1
    """Machines, started by torchrun or Slurm."""
    workers: int = 0
    """Processes that prepare batches, for each training process; 0 prepares them in the training process."""
    cache: Cache = Cache.NONE
    """Where normalised cases are kept between epochs."""
    threads: int = 0
    """CPU threads of the network; 0 leaves it to torch."""
    checkpoint_every: int = 100
    """Steps between checkpoints inside an epoch."""

    def __post_init__(self) -> None:
        counts = (self.batch, self.crops_per_case, self.devices, self.nodes, self.steps_per_epoch)
        wrong = [
            (self.epochs < 1, f"epochs is {self.epochs}: at least 1"),
            (self.minutes is not None and self.minutes < 0, f"minutes is {self.minutes}: at least 0"),
            (self.learning_rate <= 0, f"learning rate is {self.learning_rate}: above 0"),
            (self.patch and self.patch < 32, f"patch is {self.patch}: 0 for whole heads, or at least 32"),
            (self.patch == 0 and self.batch > 1, f"whole heads (patch 0) differ in size: batch {self.batch} wants 1"),
            (not 0 <= self.synthetic_share < 1, f"synthetic_share is {self.synthetic_share}: at least 0 and below 1"),
            (not 0 <= self.foreground <= 1, f"foreground is {self.foreground}: between 0 and 1"),
            (not 0 <= self.low_resolution <= 1, f"low_resolution is {self.low_resolution}: between 0 and 1"),
            (not 0 <= self.drop_channels < 1, f"drop_channels is {self.drop_channels}: at least 0 and below 1"),
            (min(counts) < 1, "counts are at least 1"),
            (min(self.patience, self.workers, self.threads, self.tuning_heads, self.seed) < 0, "counts are at least 0"),
            (self.cache is Cache.RAM and self.workers > 0, "each worker would fill its own RAM: use cache disk"),
        ]
        for is_wrong, sentence in wrong:
            if is_wrong:
                raise SettingsContradict(sentence)

    def check_network(self, network: NetworkSettings) -> None:
        """Raise SettingsContradict if the network cannot take crops of this size."""
        if self.patch % network.stride:
            raise SettingsContradict(f"patch is {self.patch}: the network wants a multiple of {network.stride}")


PRETRAIN_EPOCHS, FINETUNE_EPOCHS, SYNTHETIC_EPOCHS = 100, 50, 40
"""Default epochs; the first two from Wan et al. 2024, "Model Training Process"."""
DEFAULTS: dict[str, Any] = {
    field.name: field.default for field in fields(TrainSettings) if field.default is not MISSING
}
"""Value of each setting before it existed, for checkpoints that are older."""

_PRESETS: dict[Preset, dict[str, Any]] = {
    Preset.PAPER: {},
    Preset.FAST: {
        "learning_rate": 4e-4,
        "warm_up_epochs": 2.0,
        "patch": 160,
        "foreground": 0.67,
        "precision": "bf16-mixed",
        "channels_last": True,
    },
    Preset.SYNTHETIC: {
        "learning_rate": 1e-3,
        "lowest_rate": 0.01,
        "warm_up_epochs": 1.0,
        "clip_gradients": 2.0,
        "average_weights": True,
        "patch": 160,
        # A rim is a few voxels thin: with the same weight as the other labels, it is learned last.
        "enhancing_weight": 2.0,
        "dice_power": 2,
        # A thin rim has 200 voxels at 1 mm: with 800 more voxels of smoothing it would count as found already.
        "dice_smoothing": 80.0,
        # With as few as 80 where the label is absent, 80 false voxels would cost as much as missing half of a tumour,
        # and a fourth of the heads would teach the network to see no faint rim at all.
        "dice_smoothing_absent": 2000.0,
        "precision": "bf16-mixed",
        "workers": 1,
        "threads": 1,
    },
}


def preset_settings(preset: Preset, epochs: int, **changes: Any) -> TrainSettings:
    """Return the settings of a preset, with `changes` by name. Raises SettingsContradict."""
    return replace(TrainSettings(preset, epochs), **_PRESETS[preset] | changes)


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A configuration file of `glionode pretrain` or `finetune`."""

    settings: dict[str, Any]
    """Values of fields of TrainSettings, by name."""
    spacing_mm: float | None = None
    """Edge of the network's voxels; by default that of the data set, or of the package that fine-tuning starts from."""
    version: str = "1.0.0"
    """Version of the model package."""


def read_config(path: Path) -> ConfigFile:
    """Read a TOML file of settings by name. Raises SettingsContradict for unknown names, wrong types and bad TOML."""
    from pydantic import TypeAdapter, ValidationError

    types = {**get_type_hints(TrainSettings), "spacing_mm": float, "version": str}
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise SettingsContradict(f"{path} is no TOML file: {exc}") from exc
    values = {}
    for name, value in document.items():
        if name not in types:
            raise SettingsContradict(f"{path}: there is no setting {name}; docs/train.md says where all are listed")
        try:  # as JSON, since pydantic's strict mode takes words for an enumeration only there
            values[name] = TypeAdapter(types[name]).validate_json(json.dumps(value, default=str), strict=True)
        except ValidationError as exc:
            raise SettingsContradict(f"{path}: {name} is {value!r}: {exc.errors()[0]['msg']}") from exc
    extra = {name: values.pop(name) for name in ("spacing_mm", "version") if name in values}
    return ConfigFile(values, **extra)
