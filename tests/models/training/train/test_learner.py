"""The schedule of the learning rate."""

from types import SimpleNamespace

import pytest

from models.network import NetworkSettings
from models.training.synthetic.samples import SampleSettings
from models.training.train.learner import Learner, fresh_network
from models.training.train.plan import Plan
from models.training.train.settings import Preset, preset_settings
from models.training.train.synthetic_heads import SyntheticHeads

TINY = NetworkSettings(init_filters=8, blocks_down=(1, 1), blocks_up=(1,))


def test_the_learning_rate_warms_up_and_ends_small(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = preset_settings(Preset.SYNTHETIC, 10, steps_per_epoch=10, learning_rate=1e-2)
    plan = Plan(SyntheticHeads(SampleSettings(), settings), TINY, None, settings)
    monkeypatch.setattr(Learner, "trainer", SimpleNamespace(world_size=1))
    configured = Learner(plan, fresh_network(TINY, 3, 3)).configure_optimizers()
    schedule = configured["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(100):
        rates.append(schedule.get_last_lr()[0])
        configured["optimizer"].step()
        schedule.step()
    assert rates[0] == pytest.approx(1e-3, rel=0.01)
    assert max(rates) == pytest.approx(1e-2, rel=0.05)
    assert rates.index(max(rates)) == pytest.approx(9, abs=1)
    assert 0 < rates[-1] < 2.5e-4
