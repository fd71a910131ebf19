"""Training on synthetic heads at toy size, imported by name."""

from models.network import NetworkSettings
from models.training.synthetic.samples import SampleSettings
from models.training.train.synthetic_learner import PretrainSettings

TOY = PretrainSettings(
    steps=3,
    warm_up_steps=1,
    workers=0,
    log_every=1,
    precision="32-true",
    network=NetworkSettings(init_filters=8, blocks_down=(1, 1), blocks_up=(1,)),
    samples=SampleSettings(spacing_mm=5.0, patch=16, batch=1, stride=8, head_spacing_mm=4.0),
)
