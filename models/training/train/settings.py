"""How a network is trained on a data set: the settings, and the presets that they come from. Imports no torch."""

from dataclasses import dataclass, replace
from enum import StrEnum

from models.network import NetworkSettings


class Preset(StrEnum):
    """Recipes by name."""

    PAPER = "paper"
    """Wan et al. 2024: Adam at 1e-4, cosine annealing, Dice and cross-entropy in equal parts, no tricks."""
    FAST = "fast"
    """For GPUs of today: bfloat16, channels last, larger crops around lesions, a warm-up to a higher rate."""


class Cache(StrEnum):
    """Where normalised cases are kept between epochs."""

    NONE = "none"
    RAM = "ram"
    DISK = "disk"


class SettingsContradict(ValueError):
    """Settings that cannot be trained with; the text is a sentence."""


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """One run of training on a data set."""

    preset: Preset
    """Where the settings began; recorded."""
    epochs: int
    """Passes over the training cases."""
    patience: int = 0
    """Epochs without a better mean validation Dice after which it ends; 0 never ends early."""
    learning_rate: float = 1e-4
    """Peak of Adam's learning rate; half a cosine takes it to 0 at the last step."""
    warm_up_epochs: float = 0.0
    """Epochs in which the learning rate rises to its peak."""
    batch: int = 1
    """Crops in a step of one process."""
    patch: int = 128
    """Edge of the cubic crops in voxels; 0 takes whole heads, one a step."""
    foreground: float = 0.0
    """Share of the crops that are placed around a voxel of a label."""
    crops_per_case: int = 1
    """Crops of each case in an epoch."""
    flip: bool = True
    """Turn left and right around in half of the crops."""
    intensity: float = 0.1
    """Weighted images are scaled by up to so much and shifted by up to so much; ADC, which is quantitative, is not."""
    precision: str = "32-true"
    """As Lightning names it; weights stay float32."""
    channels_last: bool = False
    """Memory order in which GPUs convolve faster."""
    seed: int = 1
    deterministic: bool = False
    """Only operations that give the same numbers every time; on CPUs they do without it."""
    devices: int = 1
    """Processes on this machine, one a GPU where there are GPUs."""
    nodes: int = 1
    """Machines, started by torchrun or Slurm."""
    workers: int = 0
    """Processes that cut crops, for each training process; 0 cuts them in the training process."""
    cache: Cache = Cache.NONE
    threads: int = 0
    """CPU threads of the network; 0 leaves it to torch."""
    checkpoint_every: int = 100
    """Steps between checkpoints inside an epoch."""

    def __post_init__(self) -> None:
        wrong = [
            (self.epochs < 1, f"epochs is {self.epochs}: at least 1"),
            (self.learning_rate <= 0, f"learning rate is {self.learning_rate}: above 0"),
            (self.patch and self.patch < 32, f"patch is {self.patch}: 0 for whole heads, or at least 32"),
            (self.patch == 0 and self.batch > 1, f"whole heads (patch 0) differ in size: batch {self.batch} wants 1"),
            (not 0 <= self.foreground <= 1, f"foreground is {self.foreground}: between 0 and 1"),
            (min(self.batch, self.crops_per_case, self.devices, self.nodes) < 1, "counts are at least 1"),
            (self.cache is Cache.RAM and self.workers > 0, "each worker would fill its own RAM: use --cache disk"),
        ]
        for is_wrong, sentence in wrong:
            if is_wrong:
                raise SettingsContradict(sentence)

    def check_network(self, network: NetworkSettings) -> None:
        """Raise SettingsContradict where crops do not fit a network."""
        if self.patch % network.stride:
            raise SettingsContradict(f"patch is {self.patch}: the network wants a multiple of {network.stride}")


PRETRAIN_EPOCHS, FINETUNE_EPOCHS = 100, 50
"""Wan et al. 2024, "Model Training Process"."""

_PAPER = TrainSettings(Preset.PAPER, PRETRAIN_EPOCHS)
_FAST = replace(
    _PAPER,
    preset=Preset.FAST,
    learning_rate=4e-4,
    warm_up_epochs=2.0,
    patch=160,
    foreground=0.67,
    precision="bf16-mixed",
    channels_last=True,
)


def settings_of(preset: Preset, epochs: int) -> TrainSettings:
    """The settings that a preset stands for."""
    return replace(_PAPER if preset is Preset.PAPER else _FAST, epochs=epochs)
