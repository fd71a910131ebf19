"""An empty result says what that means."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest

from models.labels import PAPER_LABELS
from models.package import BUNDLED, SizeSensitivity, find_package
from pipeline.empty_result import empty_remarks
from pipeline.remarks import RemarkKind
from pipeline.result import LabelMeasurement

PACKAGE = find_package("phantom-demo", None)
NOTHING = tuple(LabelMeasurement(label, 0.0, 0, None) for label in PAPER_LABELS)


def test_one_label_that_was_found_makes_a_result_that_needs_no_remark() -> None:
    some = (replace(NOTHING[0], volume_ml=0.001, lesion_count=1), *NOTHING[1:])
    assert empty_remarks(some, PACKAGE) == ()


def test_an_empty_result_is_no_negative_one_and_says_with_what_sensitivity() -> None:
    sizes = (
        SizeSensitivity(PAPER_LABELS[0].name, 0.0, 1.0, 9, 4),
        SizeSensitivity(PAPER_LABELS[0].name, 1.0, 5.0, 8, 7),
        SizeSensitivity(PAPER_LABELS[2].name, 5.0, None, 3, 3),
    )
    (remark,) = empty_remarks(NOTHING, replace(PACKAGE, sensitivity=sizes, sensitivity_measured_on="test heads"))
    assert remark.kind is RemarkKind.EMPTY
    assert remark.text == (
        "This model found nothing. That nothing was found does not mean that nothing is there. Detected in an "
        f"evaluation on test heads: {PAPER_LABELS[0].title} up to 1 ml in 4 of 9 heads, 1 to 5 ml in 7 of 8 heads; "
        f"{PAPER_LABELS[2].title} above 5 ml in 3 of 3 heads."
    )


def test_a_model_whose_sensitivity_was_not_measured_says_so() -> None:
    (remark,) = empty_remarks(NOTHING, replace(PACKAGE, sensitivity=()))
    assert "was not measured" in remark.text


@pytest.mark.parametrize("label", [label.name for label in PAPER_LABELS])
def test_the_sensitivity_of_the_bundled_model_is_that_of_its_evaluation(label: str) -> None:
    """Of the synthetic heads with the label, those of which a lesion was detected, from the record of each case."""
    cases = json.loads((BUNDLED / "phantom-demo" / "metrics.json").read_text())["cases"]
    heads = [
        each["labels"][label] for each in cases if each["group"] in ("learned", "grown") and label in each["labels"]
    ]
    stated = [each for each in PACKAGE.sensitivity if each.label == label]
    assert stated[0].above_ml == 0
    assert stated[-1].up_to_ml is None
    for each, following in pairwise(stated):
        assert each.up_to_ml == following.above_ml
    for size in stated:
        upper = size.up_to_ml or float("inf")
        of_size = [head for head in heads if size.above_ml < head["true_ml"] <= upper]
        assert (size.heads, size.detected) == (len(of_size), sum(head["lesions"]["detected"] > 0 for head in of_size))
