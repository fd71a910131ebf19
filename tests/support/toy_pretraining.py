"""Training on synthetic heads at toy size."""

from pathlib import Path

from models.network import NetworkSettings
from models.training.synthetic.samples import SampleSettings
from models.training.train.experiment import Experiment, Outcome, describe, run_experiment
from models.training.train.fit import ProgressCallback
from models.training.train.settings import Preset, TrainSettings, preset_settings

TOY = preset_settings(
    Preset.SYNTHETIC, epochs=3, steps_per_epoch=1, workers=0, precision="32-true", tuning_heads=0, warm_up_epochs=1.0
)
"""Three steps, each of them an epoch."""
TOY_NETWORK = NetworkSettings(init_filters=8, blocks_down=(1, 1), blocks_up=(1,))
_SAMPLES = SampleSettings(spacing_mm=5.0, patch=16, batch=1, stride=8, head_spacing_mm=4.0)


def pretrain_toy(
    folder: Path,
    settings: TrainSettings = TOY,
    network: NetworkSettings = TOY_NETWORK,
    report: ProgressCallback = lambda _: None,
    resume: Path | None = None,
    command: str = "glionode pretrain ...",
) -> Outcome:
    """Train on synthetic heads and write `folder`/package; checkpoints go to `folder`/work."""
    package = describe(_SAMPLES, network, _SAMPLES.spacing_mm, settings, folder / "package")
    experiment = Experiment(_SAMPLES, settings, package, folder / "work", command, resume=resume)
    (outcome,) = run_experiment(experiment, report, lambda _: None)
    return outcome
