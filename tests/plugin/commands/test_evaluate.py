"""`glionode evaluate` refuses with one sentence what it cannot measure."""

import importlib.util
from pathlib import Path

import pytest

from plugin.commands.terminal import FAILED, WRONG_USAGE
from tests.support.node import refusal

NO_PLACE = "Say what to measure on: a folder that `glionode dataset` made and then OUT, or --synthetic."
UNKNOWN_SPLIT = "Split 'best' is unknown; choose one of train, validation, test or all."


@pytest.mark.parametrize(
    ("arguments", "expected_status", "words"),
    [
        (["phantom-demo"], WRONG_USAGE, NO_PLACE),
        (["phantom-demo", "some-data", "out", "more"], WRONG_USAGE, NO_PLACE),
        (["phantom-demo", "."], FAILED, "Make one with `glionode dataset`"),
        (["phantom-demo", ".", "--split", "best"], WRONG_USAGE, UNKNOWN_SPLIT),
        (["--synthetic", "absent"], FAILED, "glionode models list"),
        (["--synthetic", "."], FAILED, "has no model.toml"),
        (["--synthetic", "--seed0", "5", "phantom-demo"], WRONG_USAGE, "seeds below 1000000 are for training"),
    ],
)
def test_a_refusal_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected_status: int, words: str
) -> None:
    pytest.importorskip("matplotlib", reason="evaluation needs the extra glionode[train]")
    monkeypatch.chdir(tmp_path)
    status, sentence = refusal("evaluate", *arguments)
    assert (status, words in sentence) == (expected_status, True), sentence


def test_without_matplotlib_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else real(name))
    status, sentence = refusal("evaluate", "phantom-demo", tmp_path)
    assert (status, "install glionode[train]" in sentence) == (WRONG_USAGE, True), sentence
