"""The demonstration is its own: what the environment says of other nodes, as in an image, does not reach it."""

import tomllib
from pathlib import Path

import pytest

from plugin.demo.run import DemoSettings
from plugin.settings.sections import Settings


def test_the_environment_does_not_reach_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GLIONODE_STORAGE__DATA_DIR", "/elsewhere")
    told = tomllib.loads(f"[storage]\ndata_dir = '{tmp_path}'")
    assert str(Settings.model_validate(told).data_dir) == "/elsewhere"
    assert DemoSettings.model_validate(told).data_dir == tmp_path
