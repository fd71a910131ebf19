"""`glionode evaluate` refuses with one sentence, and before any work, what it cannot measure."""

import importlib.util
from pathlib import Path

import pytest

from plugin.commands.terminal import FAILED, WRONG_USAGE
from tests.support.ball_dataset import BallCase, write_ball_dataset
from tests.support.node import refusal

UNKNOWN_SPLIT = "Split 'best' is unknown; choose one of train, validation, test or all."
ONE_FAMILY = ("--synthetic", "--family", "painted")


@pytest.mark.parametrize(
    ("arguments", "expected_status", "words"),
    [
        (["out", "dataset"], WRONG_USAGE, "the order is `evaluate MODEL DATASET OUT`"),
        (["dataset", "--out", "out"], WRONG_USAGE, "--out is now the last argument"),
        (["dataset", "out", "--synthetic"], WRONG_USAGE, "--synthetic measures no data set"),
        (["dataset", "--synthetic"], WRONG_USAGE, "--synthetic measures no data set"),
        (["dataset", "--study", "."], WRONG_USAGE, "--study goes with --synthetic"),
        (["dataset", "--split", "best"], WRONG_USAGE, UNKNOWN_SPLIT),
        (["."], FAILED, "Make one with `glionode dataset`"),
        (["--synthetic", "--family", "sculpted"], WRONG_USAGE, "Family 'sculpted' is unknown; choose among painted, "),
        ([*ONE_FAMILY, "--heads", "0", "--lesion-free", "0"], WRONG_USAGE, "nothing to measure"),
        ([*ONE_FAMILY, "--seed0", "5"], WRONG_USAGE, "seeds below 1000000 are for training"),
        ([*ONE_FAMILY, "--device", "abacus"], WRONG_USAGE, "device 'abacus' is unknown"),
        ([*ONE_FAMILY, "--study", "."], WRONG_USAGE, "has no folder `dicom`"),
    ],
)
def test_wrong_arguments_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected_status: int, words: str
) -> None:
    pytest.importorskip("matplotlib", reason="evaluation needs the extra glionode[train]")
    monkeypatch.chdir(tmp_path)
    write_ball_dataset(tmp_path / "dataset", BallCase(()))
    status, sentence = refusal("evaluate", "phantom-demo", *arguments)
    assert (status, words in sentence) == (expected_status, True), sentence
    assert [path.name for path in tmp_path.iterdir()] == ["dataset"]


@pytest.mark.parametrize("arguments", [[], ["dataset", "out", "more"]])
def test_without_a_data_set_or_with_too_many_places_it_says_what_to_name(arguments: list[str]) -> None:
    status, sentence = refusal("evaluate", "phantom-demo", *arguments)
    assert status == WRONG_USAGE
    assert sentence == "Say what to measure on: a folder that `glionode dataset` made and then OUT, or --synthetic."


@pytest.mark.parametrize(
    ("model", "words"), [("absent", "glionode models list"), (".", "has no model.toml")], ids=["absent", "empty"]
)
def test_an_unknown_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, words: str) -> None:
    pytest.importorskip("matplotlib", reason="evaluation needs the extra glionode[train]")
    monkeypatch.chdir(tmp_path)
    status, sentence = refusal("evaluate", "--synthetic", model)
    assert (status, words in sentence) == (FAILED, True), sentence


@pytest.mark.parametrize(
    ("module", "arguments", "remedy"),
    [
        ("matplotlib", ["."], "install glionode[train]"),
        ("nibabel", ONE_FAMILY, "install glionode[train]"),
        ("nilearn", ["--synthetic", "--family", "grown"], "install glionode[train], or say --family painted"),
        ("nilearn", ["--synthetic"], "install glionode[train], or say --family painted"),
    ],
)
def test_a_library_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, module: str, arguments: list[str], remedy: str
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else real(name))
    status, sentence = refusal("evaluate", "phantom-demo", *arguments)
    assert (status, module in sentence, remedy in sentence) == (WRONG_USAGE, True, True), sentence
