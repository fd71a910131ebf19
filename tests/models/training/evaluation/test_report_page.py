"""Summaries, subgroups, tables and the page: numbers by hand, and a page that fetches nothing."""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from models.labels import Role
from models.package import ModelPackage
from models.training.dataset.lineage import Lineage, TrainingRecord, find_overlap
from models.training.dataset.manifest import DatasetBroken, Split
from models.training.evaluation.case_score import CaseScore
from models.training.evaluation.cases import EvaluationCase, Unmeasured
from models.training.evaluation.figures import Figure, worst_cases
from models.training.evaluation.lesions import LesionScore
from models.training.evaluation.overlays import Overlay, draw_overlay
from models.training.evaluation.report_page import write_evaluation
from models.training.evaluation.score import NOT_FOUND_MM, LabelScore
from models.training.evaluation.subgroups import Grouping, compare, read_groups, with_focality
from models.training.evaluation.summary import EvaluatedDataset, Evaluation, GroupSummary
from pipeline.volume import Geometry, Volume

LESIONS = LesionScore(true=2, detected=1, found=1, confirmed=1)
LABEL = "enhancing_tumour"


@dataclass(frozen=True)
class NamedCase(EvaluationCase):
    """A case that has a name and no files."""

    case_id: str = ""
    group: str = ""
    without: tuple[Role, ...] = ()

    @property
    def patient(self) -> str:
        return f"patient of {self.case_id}"


def case(name: str, dice: float, true_ml: float = 10.0, found_ml: float = 8.0, foci: int = 1) -> CaseScore:
    score = LabelScore(LABEL, dice, 4.0 if dice else NOT_FOUND_MM, true_ml, found_ml, LESIONS)
    return CaseScore(NamedCase(name), (score,), foci)


CASES = (case("a", 0.9), case("b", 0.8, foci=2), case("c", 0.7), case("d", 0.0, true_ml=0.0, foci=0))


def test_a_label_is_summarised_over_all_cases_and_over_those_that_have_it() -> None:
    (summary,) = GroupSummary("all", CASES, seed=1).labels
    assert summary.label == LABEL
    over_all, where_present = (each["dice"] for each in (summary.metrics, summary.metrics_where_present))
    assert (len(summary.scores), over_all.count, over_all.median) == (4, 4, pytest.approx(0.75))
    assert (len(summary.present), where_present.count, where_present.median) == (3, 3, pytest.approx(0.8))
    assert summary.false_ml is not None
    assert (summary.false_ml.count, summary.false_ml.median) == (1, 8)
    assert summary.lesions == LesionScore(8, 4, 4, 4)
    assert summary.volume is not None
    differences = np.array([-2, -2, -2, 8.0])
    reach = 1.96 * differences.std(ddof=1)
    assert summary.volume.bias_ml == pytest.approx(0.5)
    assert summary.volume.limits_ml == pytest.approx((0.5 - reach, 0.5 + reach))


FOCI = {score.case.case_id: score.foci for score in CASES}


def test_groups_are_read_and_focality_is_derived_from_the_truth(tmp_path: Path) -> None:
    path = tmp_path / "groups.csv"
    path.write_text("\ufeffcase,status\na,new\nb,recurrent\nc, recurrent \nd,\nother,new\n", encoding="utf-8")
    status, focality = with_focality(read_groups(path, ["a", "b"]), FOCI)
    assert status.groups == {"a": "new", "b": "recurrent", "c": "recurrent", "other": "new"}
    assert focality.groups == {"a": "unifocal", "b": "multifocal", "c": "unifocal"}
    path.write_text("case,focality\na,multifocal\n")
    (given,) = with_focality(read_groups(path, ["a", "b"]), FOCI)  # a person knows better than the components
    assert given.groups == {"a": "multifocal"}
    assert [each.name for each in with_focality((), FOCI)] == ["focality"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("name,status\na,new\n", "needs a column 'case'"),
        ("case\na\n", "and one column or more beside"),
        ("case,status\na,new\na,recurrent\n", "names case a more than once"),
        ("case,status\nx,new\n", "names none of the cases"),
    ],
)
def test_a_wrong_csv_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "groups.csv"
    path.write_text(text)
    with pytest.raises(DatasetBroken, match=complaint):
        read_groups(path, ["a", "b"])
    with pytest.raises(DatasetBroken, match="cannot be read"):
        read_groups(tmp_path / "absent.csv", ["a"])


def test_groups_are_compared_and_corrected_within_a_metric() -> None:
    cases = [case(str(number), dice) for number, dice in enumerate((0.9, 0.8, 0.85, 0.3, 0.2, 0.25))]
    groupings = [
        Grouping("status", {str(number): "new" if number < 3 else "recurrent" for number in range(6)}, "test"),
        Grouping("site", {str(number): "ab"[number % 2] for number in range(6)}, "test"),
    ]
    found = compare(cases, groupings, seed=1)
    assert [(each.metric, each.grouping) for each in found] == [
        (metric, grouping) for metric in ("dice", "hd95_mm") for grouping in ("status", "site")
    ]
    status, site = found[:2]
    assert [name for name, _ in status.groups] == ["new", "recurrent"]
    assert [values.median for _, values in status.groups] == pytest.approx([0.85, 0.25])
    # All 3 of one above all 3 of the other: 2 of 20 ways. Twice that is the first of two in Holm's correction.
    assert (status.difference.p, status.p_holm) == pytest.approx((0.1, 0.2))
    assert status.difference.cliffs_delta == 1
    assert site.p_holm == site.difference.p  # the largest of its family stays
    assert [each.difference.p for each in found[2:]] == [1, 1]  # HD95 is the same for all of them


def test_three_groups_are_compared_pair_by_pair() -> None:
    grouping = Grouping("grade", {"a": "2", "b": "3", "c": "4", "d": "4"}, "test")
    pairs = [tuple(name for name, _ in each.groups) for each in compare(CASES, [grouping], seed=1)]
    assert pairs == [("2", "3"), ("2", "4"), ("3", "4")] * 2


def overlay(true: tuple[int, ...], found: tuple[int, ...]) -> Overlay:
    """Draw two small masks, in these slices, on a grey cube."""
    geometry = Geometry.axial((6, 20, 20), (3.0, 1.0, 1.0), (0, 0, 0), "")
    masks = np.zeros((2, 1, *geometry.shape), bool)
    for mask, slices in zip(masks, (true, found), strict=True):
        mask[0, list(slices), 5:15, 5:15] = True
    volume = Volume(np.full(geometry.shape, 100, np.float32), geometry)
    return draw_overlay({Role.T1CE: volume}, (LABEL,), masks[0], masks[1], show_errors=True)


def test_the_worst_cases_are_chosen_and_among_equals_the_first() -> None:
    cases = [case(name, dice) for name, dice in (("b", 0.5), ("c", 0.9), ("a", 0.5), ("d", 0.1))]
    assert [score.case.case_id for _, score in worst_cases(cases, 2)] == ["d", "a"]
    assert worst_cases(cases, 0) == ()


class Links(HTMLParser):
    """Collects what a page would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.policy = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.policy += (given.get("content") or "") if given.get("http-equiv") else ""
        self.found += [value[:20] for name in ("src", "href", "data") if (value := given.get(name))]
        if tag in ("script", "iframe", "object", "embed"):
            self.found.append(tag)


def test_an_evaluation_is_written_as_tables_and_a_page(
    make_package: Callable[..., ModelPackage], tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib", reason="figures need the extra glionode[train]")
    figures = (Figure(CASES[3], overlay((1,), (2,))),)
    unmeasured = (Unmeasured(NamedCase("<e>"), "its file is damaged"),)
    lineage = Lineage(
        (TrainingRecord("old 1.0.0", "k", ("patient of a", "patient of b"), ("patient of c",)),), ("base 2.0.0",)
    )
    overlap = find_overlap(lineage, "k", {f"patient of {name}" for name in "abcd"})
    source = EvaluatedDataset("f" * 64, Split.TRAIN, overlap)
    groupings = (Grouping("status", {"a": "new <1>", "b": "recurrent", "c": "recurrent"}, "test"),)
    evaluation = Evaluation(make_package(), CASES, unmeasured, groupings, seed=1, dataset=source)
    write_evaluation(evaluation, figures, "glionode evaluate x y", tmp_path / "out")
    write_evaluation(evaluation, figures, "glionode evaluate x y", tmp_path / "again")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["cases.csv", "evaluation.json", "report.html"]
    for path in (tmp_path / "out").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()

    rows = list(csv.DictReader((tmp_path / "out" / "cases.csv").read_text().splitlines()))
    assert [row["case"] for row in rows] == ["a", "b", "c", "d"]
    assert [row["status"] for row in rows] == ["new <1>", "recurrent", "recurrent", ""]
    assert float(rows[3]["hd95_mm"]) == NOT_FOUND_MM
    assert float(rows[0]["difference_percent"]) == pytest.approx(-200 / 9)
    numbers = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert numbers["labels"][LABEL]["metrics"]["dice"]["median"] == pytest.approx(0.75)
    assert numbers["left_out"] == [{"case_id": "<e>", "why": "its file is damaged"}]
    assert numbers["comparisons"][0]["groups"].keys() == {"new <1>", "recurrent"}
    assert (numbers["cases"], numbers["patients"], numbers["split"]) == (4, 4, "train")

    text = (tmp_path / "out" / "report.html").read_text()
    links = Links()
    links.feed(text)
    assert len(links.found) == 5  # two box plots, Bland-Altman, one by group, the worst case
    assert {link[:15] for link in links.found} == {"data:image/png;"}
    assert links.policy.startswith("default-src 'none'")
    assert "http://" not in text
    assert "https://" not in text
    assert "new &lt;1&gt;" in text
    assert "new <1>" not in text
    assert "These are not test cases alone" in text
    assert numbers["overlap"] == {"patients": 4, "training": 2, "validation": 1, "unknown": ["base 2.0.0"]}
    assert "Of 4 patients, 2 are among those that the model, or one that it descends from, was trained on" in text
    assert "that base 2.0.0 learned from cannot be known" in text
    assert "&lt;e&gt;" in text


def test_a_page_without_measured_cases_says_so(make_package: Callable[..., ModelPackage], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="figures need the extra glionode[train]")
    source = EvaluatedDataset("f" * 64, Split.TEST, find_overlap(Lineage(()), "k", set()))
    evaluation = Evaluation(make_package(), (), (Unmeasured(NamedCase("a"), "broken"),), dataset=source)
    write_evaluation(evaluation, (), "a command", tmp_path)
    assert "No case was measured." in (tmp_path / "report.html").read_text()
