"""The card says first what the model is not for, and carries the measured numbers and no others."""

import json
from collections.abc import Callable

import pytest

from models.labels import LABELS
from models.package import CARD_FILE, ModelPackage, verify_package
from models.training.card import METRICS_FILE, write_results
from models.training.evaluate import Evaluation, HeadScore, summarise
from models.training.evaluation.lesions import LesionScore
from models.training.evaluation.score import NOT_FOUND_MM, LabelScore
from models.training.tumour import Variant


@pytest.fixture
def evaluation(make_package: Callable[..., ModelPackage]) -> Evaluation:
    def head(seed: int, variant: Variant, value: float | None, found_ml: float) -> HeadScore:
        there = value is not None
        lesions = LesionScore(2 * there, 1 * there, 1, 1 * there)
        scores = (
            LabelScore(label.name, value or 0.0, 4.0 if there else NOT_FOUND_MM, 10.0 * there, found_ml, lesions)
            for label in LABELS
        )
        return HeadScore(seed, variant, tuple(scores))

    heads = (
        head(1_000_000, Variant.UNIFOCAL, 0.8125, 9.5),
        head(1_000_001, Variant.SMALL, 0.25, 1.5),
        head(1_000_002, Variant.LESION_FREE, None, 0.75),
    )
    return Evaluation(make_package(), 1_000_000, heads, tuple(summarise(heads, label.name) for label in LABELS))


def test_the_card_begins_with_a_warning_and_holds_the_numbers(evaluation: Evaluation) -> None:
    write_results(evaluation, "glionode evaluate tiny --synthetic --heads 3")
    card = (evaluation.package.folder / CARD_FILE).read_text(encoding="utf-8")
    assert card.splitlines()[0] == "# tiny 1.0.0: a demonstration, not for patients"
    assert "glionode evaluate tiny --synthetic --heads 3" in card
    assert "- command: `a test`" in card
    mean = (0.8125 + 0.25) / 2
    for label in LABELS:
        assert f"| {label.name} | 2 | {mean:.3f} | {mean:.3f} | 0.250 | 4.000 | 2 of 4, 2 of 3 | 0.750 |" in card
    assert f"**{mean:.3f}**" in card
    assert "| 1000002 | lesion_free | - (0.0, 0.8) |" in card
    verify_package(evaluation.package)


def test_the_metrics_are_the_same_for_programs(evaluation: Evaluation) -> None:
    write_results(evaluation, "a command")
    metrics = json.loads((evaluation.package.folder / METRICS_FILE).read_text(encoding="utf-8"))
    assert metrics["weights_sha256"] == evaluation.package.weights_sha256
    assert metrics["mean_dice"] == pytest.approx((0.8125 + 0.25) / 2)
    assert set(metrics["labels"]) == {label.name for label in LABELS}
    assert metrics["heads"][2]["labels"]["enhancing_tumour"]["dice"] is None
    assert metrics["labels"]["enhancing_tumour"]["lesions"] == {"true": 4, "detected": 2, "found": 3, "confirmed": 2}


def test_no_half_written_file_stays(evaluation: Evaluation) -> None:
    write_results(evaluation, "a command")
    names = {path.name for path in evaluation.package.folder.iterdir()}
    assert names == {"model.toml", "weights.safetensors", CARD_FILE, METRICS_FILE}
