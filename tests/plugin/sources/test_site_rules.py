"""A site's own rules: they extend and override the bundled ones, are reloaded, and survive a typing mistake."""

import logging
import os
from pathlib import Path

import pytest

from models.labels import Role
from pipeline.classify import classify_description
from pipeline.errors import SettingsWrong
from plugin.sources.site_rules import SiteRules

OWN = """format = 1
[[term]]
name = "our word for T1 after contrast"
pattern = "zirkon"
weights = { T1CE = 20 }
"""


def save(path: Path, text: str, stamp: int) -> None:
    """Write a file with an explicit modification time; a test may be faster than a file system's clock."""
    path.write_text(text)
    os.utime(path, ns=(stamp, stamp))


def test_a_changed_file_is_reloaded_and_a_broken_one_is_ignored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "rules.toml"
    save(file, "format = 1\n", 1)
    rules = SiteRules(file)
    assert classify_description("zirkon", rules.current()).role is None
    save(file, OWN, 2_000_000_000)
    assert classify_description("zirkon", rules.current()).role is Role.T1CE
    assert rules.current() is rules.current()
    with caplog.at_level(logging.ERROR):
        save(file, OWN.replace("T1CE = 20", "T9 = 20"), 4_000_000_000)
        assert classify_description("zirkon", rules.current()).role is Role.T1CE
    assert str(file) in caplog.text
    file.unlink()
    with caplog.at_level(logging.ERROR):
        assert classify_description("zirkon", rules.current()).role is Role.T1CE


def test_a_broken_file_at_start_is_an_error_that_names_its_line(tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(OWN.replace("T1CE = 20", "T9 = 20"))
    with pytest.raises(SettingsWrong, match=r"rules\.toml.*line"):
        SiteRules(file)


def test_without_a_file_the_bundled_rules_are_used() -> None:
    assert classify_description("ADC", SiteRules(None).current()).role is Role.ADC
