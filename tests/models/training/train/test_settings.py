"""Settings of training: presets, contradictions, and the configuration file."""

import dataclasses
import re
from pathlib import Path

import pytest

from models.training.train.settings import (
    Cache,
    ConfigFile,
    Preset,
    SettingsContradict,
    TrainSettings,
    preset_settings,
    read_config,
)
from tests.support.paths import ROOT

SETTINGS = TrainSettings(Preset.PAPER, epochs=2)


def test_contradictory_settings_are_refused() -> None:
    for change, words in (
        ({"patch": 16}, "at least 32"),
        ({"patch": 0, "batch": 2}, "whole heads"),
        ({"epochs": 0}, "epochs is 0"),
        ({"foreground": 1.5}, "foreground"),
        ({"cache": Cache.RAM, "workers": 1}, "use cache disk"),
    ):
        with pytest.raises(SettingsContradict, match=words):
            dataclasses.replace(SETTINGS, **change)  # type: ignore[arg-type]


def test_the_preset_paper_is_the_recipe_of_the_paper() -> None:
    paper = preset_settings(Preset.PAPER, 100)
    assert (paper.learning_rate, paper.epochs, paper.warm_up_epochs, paper.foreground) == (1e-4, 100, 0.0, 0.0)
    assert preset_settings(Preset.FAST, 50).precision == "bf16-mixed"


def test_every_setting_can_be_written_in_a_file(tmp_path: Path) -> None:
    """As TOML has it: words for enumerations, whole numbers for settings that take fractions."""
    settings = dataclasses.replace(SETTINGS, minutes=5, cache=Cache.DISK, learning_rate=1)
    lines = []
    for name, value in dataclasses.asdict(settings).items():
        lines.append(f"{name} = {str(value).lower() if isinstance(value, bool | int | float) else repr(str(value))}")
    path = tmp_path / "config.toml"
    path.write_text("\n".join([*lines, "spacing_mm = 2", 'version = "1.2.3"']))
    config = read_config(path)
    assert TrainSettings(**config.settings) == settings
    assert (config.spacing_mm, config.version) == (2.0, "1.2.3")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("flip = 1", "flip is 1: Input should be a valid boolean"),
        ("epochs = 1.5", "epochs is 1.5: Input should be a valid integer"),
        ('preset = "quick"', "preset is 'quick': Input should be 'paper', 'fast' or 'synthetic'"),
        ("[train]\nepochs = 3", "there is no setting train"),
        ("version = 1", "version is 1: Input should be a valid string"),
    ],
)
def test_a_wrong_name_or_type_is_refused(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(SettingsContradict, match=re.escape(words)):
        read_config(path)


def test_the_example_of_the_documentation_is_read(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "train.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.S)
    path = tmp_path / "config.toml"
    path.write_text(example)
    config = read_config(path)
    assert config == ConfigFile(
        {"preset": Preset.FAST, "batch": 2, "patience": 10, "devices": 4, "seed": 7}, version="1.1.0"
    )
    table = re.findall(r"^\| `--[^|]*\| ([^|]*) \|$", page, re.M)
    named = set(re.findall(r"`([a-z_]+)(?: = true)?`", " ".join(table)))
    assert named - {"spacing_mm", "version"} <= {field.name for field in dataclasses.fields(TrainSettings)}
    assert len(named) >= 10
