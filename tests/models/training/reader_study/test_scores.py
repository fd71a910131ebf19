"""Answers are checked when they are read, and the paper's tables are reproduced."""

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from models.training.dataset.manifest import DatasetBroken
from models.training.evaluation.subgroups import Grouping, by_focality
from models.training.reader_study.analysis import StudyScores, score_study
from models.training.reader_study.answer_key import KEY_FILE, Item, Key, MaskSource, write_key
from models.training.reader_study.answers import Reading, find_answers, read_all, read_answers
from models.training.reader_study.scores_page import write_scores
from plugin.commands.reader_study import reader_study_app
from plugin.commands.terminal import FAILED

# Table 2 of Wan et al.: model by row, manual by column, scores 2 to 5.
TABLE_2 = ((0, 1, 5, 0), (0, 23, 17, 2), (2, 15, 13, 7), (0, 3, 7, 2))


def key_of(cases: int, repeats: Mapping[str, str] | None = None) -> Key:
    """Make a key of items m0, h0, m1, h1...: model and manual mask of each case, and repeats of the items they name."""
    pairs = (
        (f"{'m' if source is MaskSource.MODEL else 'h'}{n}", f"c{n}", source)
        for n in range(cases)
        for source in MaskSource
    )
    items = [Item(name, case, source, None) for name, case, source in pairs]
    of = {item.item_id: item for item in items}
    items += [Item(new, of[old].case_id, of[old].source, old) for new, old in (repeats or {}).items()]
    foci = {f"c{number}": 1 + number % 2 for number in range(cases)}
    return Key("study", 1, "tiny 1.0.0", "a" * 64, "f" * 64, ("T1CE", "FLAIR"), tuple(items), foci)


def paper() -> tuple[Key, Reading]:
    """Return table 2 of the paper as the reading of one reader."""
    pairs = [
        (model, manual)
        for model, row in enumerate(TABLE_2, 2)
        for manual, count in enumerate(row, 2)
        for _ in range(count)
    ]
    scores = {f"m{number}": model for number, (model, _) in enumerate(pairs)}
    return key_of(len(pairs)), Reading("A", scores | {f"h{number}": manual for number, (_, manual) in enumerate(pairs)})


def test_the_papers_table_2_comes_out() -> None:
    key, reading = paper()
    (reader,) = score_study(key, [reading], ()).readers
    by_source = {each.source: each for each in reader.sources}
    model, manual = by_source[MaskSource.MODEL], by_source[MaskSource.MANUAL]
    for each, mean, deviation, share in ((model, 3.567, 0.789, 93.8), (manual, 3.639, 0.710, 97.9)):
        assert each.scores.standard_deviation is not None
        assert (round(each.scores.mean, 3), round(each.scores.standard_deviation, 3)) == (mean, deviation)
        assert round(100 * each.acceptable / each.scores.count, 1) == share
    assert tuple(row[1:] for row in reader.cross[1:]) == TABLE_2
    assert reader.cross[0] == (0, 0, 0, 0, 0)
    assert reader.cross_chi_square is not None
    assert round(reader.cross_chi_square.p, 3) == 0.107
    assert reader.paired_p is not None
    assert 0.3 < reader.paired_p < 0.7  # 34 cases up, 25 down: a sign test alone has p 0.30


def test_the_papers_table_3_comes_out() -> None:
    # The model's scores by focality: 3, 31, 30, 10 unifocal and 3, 11, 7, 2 multifocal.
    scores = [
        score for counts in ((3, 31, 30, 10), (3, 11, 7, 2)) for score, n in enumerate(counts, 2) for _ in range(n)
    ]
    key = key_of(97)
    grouping = Grouping("focality", {f"c{n}": "unifocal" if n < 74 else "multifocal" for n in range(97)}, "the paper")
    reading = Reading("A", {f"m{number}": score for number, score in enumerate(scores)})
    (reader,) = score_study(key, [reading], [grouping]).readers
    model, manual = reader.subgroups
    assert model.groups == ("multifocal", "unifocal")
    assert model.counts == ((0, 0), (3, 3), (11, 31), (7, 30), (2, 10))
    assert model.chi_square is not None
    assert round(model.chi_square.p, 3) == 0.357
    assert model.p_holm == model.chi_square.p  # the only one that was tested
    assert model.difference is not None
    assert model.difference.cliffs_delta < 0
    assert (manual.groups, manual.chi_square, manual.p_holm) == ((), None, None)


def agreement(scores: StudyScores, source: MaskSource | None) -> tuple[int, float]:
    (found,) = (each for each in scores.agreement if each.source is source)
    assert found.icc is not None
    return found.items, found.icc.consistency


def test_readers_agree_on_the_items_that_all_of_them_judged() -> None:
    key = key_of(4)
    one = Reading("A", {"m0": 1, "m1": 2, "m2": 3, "m3": 4, "h0": 5, "h1": 3, "h2": 4})
    strict = Reading("B", {"m0": 1, "m1": 1, "m2": 2, "m3": 3, "h0": 4, "h1": 2, "h2": 3, "h3": 5})
    scores = score_study(key, [one, strict], ())
    assert agreement(scores, MaskSource.MANUAL) == (3, pytest.approx(1))  # B is one lower throughout
    items, consistency = agreement(scores, MaskSource.MODEL)
    assert items == 4
    assert 0.5 < consistency < 1
    assert agreement(scores, None)[0] == 7
    (manual,) = (each for each in scores.agreement if each.source is MaskSource.MANUAL)
    # 5, 3, 4 against 4, 2, 3: three pairs one step apart; by chance 21 squares / 3 over all nine pairs, by hand below.
    chance = sum((a - b) ** 2 for a in (5, 3, 4) for b in (4, 2, 3)) / 3
    assert manual.kappas == (("A", "B", pytest.approx(1 - 3 / chance)),)
    assert score_study(key, [one], ()).agreement == ()


def test_agreement_that_is_not_defined_is_a_dash(tmp_path: Path) -> None:
    key = key_of(2, {"r1": "m0", "r2": "m1"})
    one = Reading("A", {"m0": 3, "m1": 4, "h0": 3, "h1": 3, "r1": 4, "r2": 3})
    other = Reading("B", {"m0": 4, "m1": 3, "h0": 4, "h1": 4})
    write_scores(score_study(key, [one, other], ()), [one, other], tmp_path)
    page = (tmp_path / "scores.html").read_text()
    # Of the manual masks one reader gives 3 and the other 4: which of the two is better nobody says.
    assert "<td>Manual</td><td>2</td><td>-</td>" in page
    assert "2 items were judged twice: weighted kappa -1.000, ICC(3,1) -1.000" in page
    numbers = json.loads((tmp_path / "scores.json").read_text())
    assert numbers["readers"][0]["repeat_icc"]["agreement"] is None


def test_second_showings_only_serve_the_agreement_of_a_reader_with_themselves() -> None:
    key = key_of(3, {"r1": "m0", "r2": "h1", "r3": "m2"})
    reading = Reading("A", {"m0": 3, "h0": 3, "m1": 4, "h1": 5, "m2": 2, "h2": 2, "r1": 3, "r2": 4, "r3": 2})
    (reader,) = score_study(key, [reading], ()).readers
    assert [(each.scores.count, each.scores.mean) for each in reader.sources] == [(3, 3), (3, pytest.approx(10 / 3))]
    assert reader.repeats == 3
    # (3, 3), (5, 4), (2, 2): one square seen; by chance the mean over all pairs times three.
    chance = sum((a - b) ** 2 for a in (3, 5, 2) for b in (3, 4, 2)) / 3
    assert reader.repeat_kappa == pytest.approx(1 - 1 / chance)
    assert reader.repeat_icc is not None
    partly = Reading("A", {item: score for item, score in reading.scores.items() if item not in ("r1", "h1")})
    assert score_study(key, [partly], ()).readers[0].repeats == 1


def answer(level: str, consistent: bool = True, **changed: Any) -> dict[str, Any]:
    both = {"T1CE": level, "FLAIR": level}
    return {"consistent": consistent, "missing": both, "includes_normal": False, "seconds": 9, **changed}


def export(path: Path, answers: Mapping[str, Any], reader: str = "A", study: str = "study") -> Path:
    """Write what the form exports as JSON."""
    path.write_text(json.dumps({"format": 1, "study": study, "reader": reader, "answers": answers}))
    return path


def test_scores_are_computed_from_the_answers(tmp_path: Path) -> None:
    given = {"m0": answer("none", score=5), "h0": answer("over_half", False, score=1), "m1": answer("under_quarter")}
    reading = read_answers(export(tmp_path / "a.json", given), key_of(2))
    assert (reading.reader, reading.scores) == ("A", {"m0": 5, "h0": 1, "m1": 4})


def test_csv_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    head = "study,reader,item,consistent,missing_T1CE,missing_FLAIR,includes_normal,seconds,score\n"
    path.write_text(
        head + "study,B,m0,true,none,under_quarter,true,5,3\nstudy,B,h1,false,over_half,over_half,false,5,1\n"
    )
    assert read_answers(path, key_of(2)) == Reading("B", {"m0": 3, "h1": 1})


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ("study,B,m0,true,none,none,true,5,3,more", "more or fewer cells than the header"),
        ("study,B,m0,true,none", "more or fewer cells than the header"),
        ("study,B,m0,perhaps,none,none,true,5,3", "consistent: .* boolean"),
        ("study,B,m0,true,none,none,true,5,3\nstudy,B,m0,true,none,none,true,5,3", "an item is twice in it"),
        ("study,B,m0,true,none,none,true,5,3\nstudy,C,m1,true,none,none,true,5,3", "of one study and one reader"),
        ("study,B,m0,true,none,none,true,yes", r"a.csv is not as .* unknown key sure"),
    ],
)
def test_wrong_rows_of_a_csv_are_refused(tmp_path: Path, rows: str, complaint: str) -> None:
    path = tmp_path / "a.csv"
    last_columns = "sure" if rows.endswith("yes") else "seconds,score"
    path.write_text(f"study,reader,item,consistent,missing_T1CE,missing_FLAIR,includes_normal,{last_columns}\n{rows}\n")
    with pytest.raises(DatasetBroken, match=complaint):
        read_answers(path, key_of(2))


@pytest.mark.parametrize(
    ("answers", "complaint"),
    [
        ({"m0": answer("none", score=4)}, "the file states score 4, its answers come to 5"),
        ({"x9": answer("none")}, "item x9 is not in this study"),
        ({"m0": answer("over_half")}, "item m0: the answer is incomplete or wrong"),
        ({"m0": answer("none") | {"missing": {"T1CE": "none"}}}, "item m0: the answer is incomplete or wrong"),
        (
            {"m0": answer("none") | {"missing": dict.fromkeys(("T1CE", "FLAIR", "T2"), "none")}},
            "judges T1CE, FLAIR, T2",
        ),
        ({"m0": answer("none") | {"includes_normal": "no"}}, r"a.json .* answers.m0.includes_normal: .* boolean"),
        ({"m0": answer("none") | {"missing": {"T1CE": "most", "FLAIR": "none"}}}, r"answers.m0.missing.T1CE: "),
        ({"m0": answer("none", sure=True)}, r"a.json is not as .* unknown key answers.m0.sure"),
        ({}, "holds no complete answer"),
        ([1], r"is not as the form exports answers: answers: "),
    ],
)
def test_wrong_answers_are_refused(tmp_path: Path, answers: Any, complaint: str) -> None:
    with pytest.raises(DatasetBroken, match=complaint):
        read_answers(export(tmp_path / "a.json", answers), key_of(2))


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    good = {"m0": answer("none")}
    with pytest.raises(DatasetBroken, match="holds answers of study other"):
        read_answers(export(tmp_path / "a.json", good, study="other"), key_of(1))
    one, two = export(tmp_path / "a.json", good), export(tmp_path / "b.json", good)
    with pytest.raises(DatasetBroken, match="two files of reader A"):
        read_all([one, two], key_of(1))
    (tmp_path / "c.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DatasetBroken, match="the columns study, reader and item"):
        read_answers(tmp_path / "c.csv", key_of(1))
    with pytest.raises(DatasetBroken, match="cannot be read"):
        read_answers(tmp_path / "absent.json", key_of(1))
    with pytest.raises(DatasetBroken, match="There are no answers"):
        find_answers(tmp_path, [])


def test_the_tables_are_written(tmp_path: Path) -> None:
    key, reading = paper()
    write_scores(score_study(key, [reading], [by_focality(key.foci)]), [reading], tmp_path)
    page = (tmp_path / "scores.html").read_text()
    for printed in ("3.567 ± 0.789", "3.639 ± 0.710", "91 (93.8 %)", "23 (54.76)", "15 (35.71)", "p 0.107"):
        assert printed in page, printed
    assert "<td>Model 2</td><td>0 (0.00)</td><td>1 (2.38)</td><td>5 (11.90)</td><td>0 (0.00)</td><td>6</td>" in page
    rows = list(csv.DictReader((tmp_path / "scores.csv").read_text().splitlines()))
    assert len(rows) == 194
    assert rows[0] == {"reader": "A", "item": "m0", "case": "c0", "source": "model", "repeat_of": "", "score": "2"}
    numbers = json.loads((tmp_path / "scores.json").read_text())
    assert numbers["readers"][0]["cross_chi_square"]["p"] == pytest.approx(0.107, abs=5e-4)


def test_the_command_scores_what_lies_in_the_folder(tmp_path: Path, sentence: Callable[[str], str]) -> None:
    runner = CliRunner()
    given = [str(tmp_path)]
    (tmp_path / KEY_FILE).write_text("{}")
    result = runner.invoke(reader_study_app, ["score", *given])
    assert "no key of a reader study" in sentence(result.stderr)
    assert "study is missing" in sentence(result.stderr)
    write_key(key_of(3), tmp_path)
    result = runner.invoke(reader_study_app, ["score", *given])
    assert result.exit_code == FAILED
    assert "There are no answers" in sentence(result.stderr)
    (tmp_path / "answers").mkdir()
    for reader, levels in (("A", ("none", "under_quarter", "over_quarter")), ("B", ("none", "none", "over_quarter"))):
        answers = {f"{source}{n}": answer(level) for n, level in enumerate(levels) for source in "mh"}
        export(tmp_path / "answers" / f"{reader}.json", answers, reader)
    result = runner.invoke(reader_study_app, ["score", *given])
    assert result.exit_code == 0, result.output
    assert "Reader A: 6 of 6 items judged" in result.stdout
    assert "model: ICC(3,1)" in result.stdout
    assert "Agreement of readers" in (tmp_path / "scores.html").read_text()


@pytest.fixture
def sentence() -> Callable[[str], str]:
    """Return the one line on standard error, which is no traceback."""

    def one_line(text: str) -> str:
        (line,) = text.strip().splitlines()
        return line

    return one_line
