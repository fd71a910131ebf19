"""The card begins with what the model is not for; it and metrics.json hold the same measured numbers."""

import json
import re
import tomllib
from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

import pytest

from models.install import verify_package
from models.labels import PAPER_LABELS, Role
from models.package import BUNDLED, CARD_FILE, ModelPackage
from models.training.evaluation.case_score import CaseScore
from models.training.evaluation.cases import HeadCase, StudyCase, Unmeasured
from models.training.evaluation.evaluation_card import METRICS_FILE, write_card
from models.training.evaluation.figures import Figure, Rank
from models.training.evaluation.overlays import Overlay
from models.training.evaluation.summary import Evaluation
from models.training.synthetic.families import Family
from models.training.synthetic.tumour import Variant
from tests.support.paths import ROOT

COMMAND = "glionode evaluate tiny --synthetic --heads 2"


_NAMES = {
    "learned": "of the families learned from",
    "grown": "of a family held out",
    "real": "real heads, simulated tumours",
}


@pytest.fixture
def evaluation(
    scored: Callable[..., CaseScore], make_package: Callable[..., ModelPackage], tmp_path: Path
) -> Evaluation:
    """Make an evaluation of five heads, one of which failed, and of a study."""
    cases = (
        scored(HeadCase(Family.PAINTED, 1_000_000, Variant.UNIFOCAL), 0.8125, found_ml=9.5),
        scored(HeadCase(Family.PAINTED, 1_000_002, Variant.SMALL), 0.25, found_ml=1.5),
        scored(HeadCase(Family.GROWN, 1_000_000, Variant.UNIFOCAL), 0.5, found_ml=5.25),
        scored(HeadCase(Family.PAINTED, 1_500_000, Variant.LESION_FREE), None, found_ml=0.75),
        scored(HeadCase(Family.GROWN, 1_500_000, Variant.LESION_FREE), None, found_ml=0.0),
        scored(StudyCase(tmp_path / "a-study"), 0.625, found_ml=6.5),
    )
    return Evaluation(
        make_package(), cases, (Unmeasured(HeadCase(Family.GROWN, 1_000_001, Variant.MULTIFOCAL), "It broke."),)
    )


@pytest.fixture
def figures(evaluation: Evaluation) -> tuple[Figure, ...]:
    return (
        Figure(evaluation.cases[0], Overlay(b"first picture", (1, 2, 3)), Rank.BEST),
        Figure(evaluation.cases[-1], Overlay(b"second picture", (1, 2, 3)), Rank.BEST),
    )


def cells(card: str) -> list[list[str]]:
    """Return every row of every table."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in card.splitlines() if line.startswith("|")]


def pictures_of(card: str) -> list[str]:
    """Return the names of the pictures that the card shows."""
    return re.findall(r"!\[[^\]]*\]\(([^)]*)\)", card)


def test_the_card_begins_with_a_warning_and_holds_the_numbers(
    evaluation: Evaluation, figures: tuple[Figure, ...]
) -> None:
    write_card(evaluation, figures, COMMAND)
    card = (evaluation.package.folder / CARD_FILE).read_text(encoding="utf-8")
    assert card.splitlines()[0] == "# tiny 1.0.0: a demonstration, not for patients"
    assert COMMAND in card
    assert "- command: `a test`" in card
    rows = cells(card)
    mean = f"{(0.8125 + 0.25) / 2:.3f}"
    for label in PAPER_LABELS:
        assert [
            "of the families learned from",
            label.name,
            "2",
            mean,
            mean,
            "0.250",
            "4.000",
            "2 of 4",
            "2 of 2",
        ] in rows
        assert ["of a family held out", label.name, "1", "0.500", "0.500", "0.500", "4.000", "1 of 2", "1 of 1"] in rows
        assert ["all", label.name, "2", "0.375", f"{0.95 * 0.75:.3f}", "0.750", "1"] in rows
        where = label.defined_on.value
        assert ["a-study", label.name, where, "0.625", "4.000", "10.000", "6.500", "1 of 2", "1 of 1"] in rows
    assert ["of the families learned from", "small", "1", *["0.250 (0.250; 0.250)"] * 3] in rows
    assert "not a patient's tumour" in card
    assert "Not measured, because something failed: grown, seed 1000001, multifocal." in card
    assert "goal" not in card.lower()
    verify_package(evaluation.package)


def test_metrics_json_holds_the_numbers_of_the_card(evaluation: Evaluation, figures: tuple[Figure, ...]) -> None:
    write_card(evaluation, figures, COMMAND)
    metrics = json.loads((evaluation.package.folder / METRICS_FILE).read_text(encoding="utf-8"))
    rows = cells((evaluation.package.folder / CARD_FILE).read_text(encoding="utf-8"))
    assert metrics["weights_sha256"] == evaluation.package.weights_sha256
    assert metrics["groups"]["learned"]["mean_dice"] == pytest.approx((0.8125 + 0.25) / 2)
    for group, named in _NAMES.items():
        for label, summary in metrics["groups"][group]["labels"].items():
            (row,) = [row for row in rows if row[:2] == [named, label] and len(row) == 9]
            numbers = [summary[name] for name in ("median_dice", "mean_dice", "lowest_dice", "median_hd95_mm")]
            lesions = summary["lesions"]
            assert row[2:] == [
                *(str(summary["cases"]), *(f"{number:.3f}" for number in numbers)),
                *(f"{lesions['detected']} of {lesions['true']}", f"{lesions['confirmed']} of {lesions['found']}"),
            ]
    for group, free in metrics["lesion_free"].items():
        for label, each in free["labels"].items():
            volumes = [f"{each[name]:.3f}" for name in ("median_ml", "percentile_95_ml", "highest_ml")]
            assert [_NAMES.get(group, group), label, str(free["heads"]), *volumes, str(each["lesions"])] in rows
    assert [case.get("seed", case.get("study")) for case in metrics["cases"]] == [
        *(1_000_000, 1_000_002, 1_000_000, 1_500_000, 1_500_000),
        "a-study",
    ]
    assert metrics["cases"][3]["labels"]["enhancing_tumour"]["dice"] is None
    assert metrics["left_out"] == [{"group": "grown", "seed": 1_000_001, "variant": "multifocal", "why": "It broke."}]


def test_the_card_shows_its_pictures_and_older_ones_are_removed(
    evaluation: Evaluation, figures: tuple[Figure, ...]
) -> None:
    folder = evaluation.package.folder
    write_card(evaluation, (Figure(evaluation.cases[2], Overlay(b"old", (1, 2, 3)), Rank.WORST), *figures), COMMAND)
    (folder / "of-somebody-else.png").write_bytes(b"kept")
    write_card(evaluation, figures, COMMAND)
    card = (folder / CARD_FILE).read_text(encoding="utf-8")
    assert pictures_of(card) == ["learned-best.png", "real-best.png"]
    assert (folder / "learned-best.png").read_bytes() == b"first picture"
    # Nothing half-written stays either.
    assert {path.name for path in folder.iterdir()} == {
        *("model.toml", "weights.safetensors", CARD_FILE, METRICS_FILE),
        *("learned-best.png", "real-best.png", "of-somebody-else.png"),
    }
    assert f"enhancing_tumour on {Role.T1CE}" in card


def test_what_was_measured_with_fewer_channels_stands_in_a_table_of_its_own(
    evaluation: Evaluation, figures: tuple[Figure, ...]
) -> None:
    """It changes no other number of the card."""
    folder = evaluation.package.folder
    write_card(evaluation, figures, COMMAND)
    plain = (folder / CARD_FILE).read_text()
    assert "By the channels that the network was given" not in plain
    reduced = tuple(
        replace(score, case=replace(score.case, without=(Role.ADC,)), absent=(Role.ADC,))
        for score in evaluation.cases
        if not score.case.is_lesion_free
    )
    write_card(replace(evaluation, reduced=reduced), figures, COMMAND)
    card = (folder / CARD_FILE).read_text()
    rows = cells(card)
    assert [row for row in rows if row not in cells(plain)][-6:] == [
        ["all", "enhancing_tumour", "6", "4", "0.562", "0.547", "0.250", "yes"],
        ["all", "adc_abnormality", "6", "4", "0.562", "0.547", "0.250", "yes"],
        ["all", "flair_hyperintensity", "6", "4", "0.562", "0.547", "0.250", "yes"],
        ["without ADC", "enhancing_tumour", "4", "4", "0.562", "0.547", "0.250", "yes"],
        ["without ADC", "adc_abnormality", "4", "4", "0.562", "0.547", "0.250", "no"],
        ["without ADC", "flair_hyperintensity", "4", "4", "0.562", "0.547", "0.250", "yes"],
    ]
    assert all(row in rows for row in cells(plain))
    subsets = json.loads((folder / METRICS_FILE).read_text())["subsets"]
    assert [(each["channels"], each["cases"]) for each in subsets] == [("all", 6), ("without ADC", 4)]


def test_a_wheel_takes_cards_and_pictures_along() -> None:
    """Setuptools includes what the patterns of pyproject.toml match."""
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["models"]
    models = BUNDLED.parent
    cards = list(BUNDLED.glob(f"*/{CARD_FILE}"))
    assert cards
    for card in cards:
        shown = [card.parent / name for name in pictures_of(card.read_text(encoding="utf-8"))]
        assert [path for path in shown if not path.is_file()] == []
        for path in (card, card.parent / METRICS_FILE, card.parent / "learned-best.png", *shown):
            assert any(fnmatch(path.relative_to(models).as_posix(), pattern) for pattern in patterns), path
