"""The demonstration's settings do not depend on the environment, which in an image holds those of another node."""

import tomllib
from pathlib import Path

import pytest

from plugin.demo.run import DemoSettings
from plugin.settings.sections import Settings


def test_the_environment_does_not_change_the_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GLIONODE_STORAGE__DATA_DIR", "/elsewhere")
    given = tomllib.loads(f"[storage]\ndata_dir = '{tmp_path}'")
    assert str(Settings.model_validate(given).data_dir) == "/elsewhere"
    assert DemoSettings.model_validate(given).data_dir == tmp_path
