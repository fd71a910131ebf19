"""A row that fails is named, and the others are measured; ratios are those of the fastest runs."""

import argparse
from pathlib import Path

import pytest

from benchmarks import whole_case
from benchmarks.whole_case import Case, RowFailed, Run, as_json, measure, measured, ratios
from tests.support.paths import ROOT


def run_of(align: float, total: float) -> Run:
    return Run("cpu", {"align": align, "segment": 1.0, "total": total}, total + 1, total, 100.0)


def case_of(folder: Path, *rows: str) -> Case:
    options = argparse.Namespace(repeats=2, only=rows, before=folder)
    return Case("a study", folder, folder / "work", options)


def test_a_failed_row_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fails(case: Case) -> Run:
        calls.append("plain")
        raise RowFailed("no GPU")

    monkeypatch.setattr(whole_case, "run_plain", fails)
    monkeypatch.setattr(whole_case, "run_warm", lambda case: run_of(1, 2))
    case = measure(case_of(tmp_path, "warm", "plain"))
    assert len(case.runs["warm"]) == 2
    assert calls == ["plain"]
    assert as_json(case)["failed"] == {"plain": "RowFailed: no GPU"}


def test_ratios_are_of_the_fastest_runs(tmp_path: Path) -> None:
    case = case_of(tmp_path)
    case.runs = {"ours": [run_of(9, 90), run_of(1, 4)], "before": [run_of(4, 8)], "plain": [run_of(4, 20)]}
    case.floor = {"plain_pass_s": 2.0, "floor_s": 0.5}
    assert ratios(case) == {
        "total, ours to before": 0.5,
        "align, ours to before": 0.25,
        "process, ours to before": round(5 / 9, 3),
        "total, plain to ours": 5.0,
        "process, plain to ours": 4.2,
        "total, ours to one plain float32 pass": 2.0,
        "segment, ours to the floor": 2.0,
    }


def test_a_process_is_measured_by_itself() -> None:
    code = "import os; held = bytearray(200 << 20); assert os.environ['PYTHONPATH'] == os.getcwd()"
    used = measured(["python3", "-c", code], ROOT)
    assert 200 < used["peak_mib"] < 400
    assert used["cpu_s"] > 0
    with pytest.raises(RowFailed, match="ZeroDivisionError"):
        measured(["python3", "-c", "1 / 0"], ROOT)
