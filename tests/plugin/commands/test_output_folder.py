"""No command writes results where the next run would take them for input, or over results of something else."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from plugin.commands.app import app
from plugin.commands.output_folder import refuse_other_results, refuse_overlap
from plugin.commands.terminal import WRONG_USAGE
from tests.support.ball_dataset import BallCase, write_ball_dataset

Place = Callable[[Path], Path]


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (lambda folder: folder / "in", "is the input itself"),
        (lambda folder: folder / "in" / "out", "lies in the input"),
        (lambda folder: folder / "in" / "deep" / "out", "lies in the input"),
        (lambda folder: folder / "in" / ".." / "in" / "out", "lies in the input"),
        (lambda folder: folder / "link" / "out", "lies in the input"),
        (lambda folder: folder / "link", "is the input itself"),
        (lambda folder: folder, "holds the input"),
        (lambda folder: folder / "up", "holds the input"),
    ],
)
@pytest.mark.parametrize("source", ["in", "link"])
def test_input_and_results_never_overlap(
    place: Place, words: str, source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "site"
    (folder / "in").mkdir(parents=True)
    (folder / "link").symlink_to(folder / "in")
    (folder / "up").symlink_to(folder)
    with pytest.raises(typer.Exit) as ended:
        refuse_overlap(folder / source, place(folder))
    assert ended.value.exit_code == WRONG_USAGE
    said = capsys.readouterr().err
    assert words in said
    assert "the next run would take results for input" in said


def test_a_folder_beside_the_input_is_free(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for out in ("out", "in-out", "in2/in"):
        refuse_overlap(tmp_path / "in", tmp_path / out)
    refuse_overlap(tmp_path / "absent", tmp_path / "absent" / "out")


def write_report(folder: Path, study: str, *files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    outputs = [{"path": file, "sop_class_uid": "1.2", "sop_instance_uid": "1.3"} for file in files]
    (folder / "report.json").write_text(json.dumps({"study_instance_uid": study, "roles": {}, "outputs": outputs}))
    for file in files:
        (folder / file).write_bytes(b"a result")


def refused(studies: list[str], out: Path, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(typer.Exit):
        refuse_other_results(studies, out)
    return capsys.readouterr().err


def test_only_results_of_the_same_study_are_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refuse_other_results(["1.2.3"], tmp_path / "new")
    write_report(tmp_path / "out", "1.2.3", "seg.dcm")
    (tmp_path / "out" / "notes.txt").write_text("of a reader")
    refuse_other_results(["1.2.3"], tmp_path / "out")
    said = refused(["1.2.4"], tmp_path / "out", capsys)
    assert "holds the results of study 1.2.3, which those of study 1.2.4 would replace" in said
    (tmp_path / "out" / "corrected.dcm").write_bytes(b"by a person")
    assert "holds corrected.dcm, which no report.json there names" in refused(["1.2.3"], tmp_path / "out", capsys)


def test_a_study_never_gets_two_results_in_one_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_report(tmp_path / "one", "1.2.3")
    assert "holds the results of a single study" in refused(["1.2.3", "1.2.4"], tmp_path / "one", capsys)
    write_report(tmp_path / "several" / "1.2.3", "1.2.3")
    write_report(tmp_path / "several" / "1.2.4", "1.2.4")
    refuse_other_results(["1.2.3", "1.2.4"], tmp_path / "several")
    assert "would have two results there" in refused(["1.2.3"], tmp_path / "several", capsys)
    write_report(tmp_path / "several" / "1.2.4", "9.9")
    assert "holds the results of study 9.9" in refused(["1.2.3", "1.2.4"], tmp_path / "several", capsys)


@pytest.mark.parametrize(
    "command",
    [
        ("segment", "IN", "IN/out"),
        ("xnat-session", "IN", "IN/out"),
        ("dataset", "from-dicom", "IN", "IN/out"),
        ("dataset", "from-brats", "IN", "IN/out"),
        ("reader-study", "make", "phantom-demo", "IN", "IN/out"),
        ("pretrain", "IN", "IN/out"),
    ],
)
def test_every_command_refuses_results_in_its_input(command: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "IN" / "SCANS" / "1" / "DICOM").mkdir(parents=True)
    (tmp_path / "IN" / "dataset.json").write_text("{}")
    given = [str(tmp_path / each) if each.startswith("IN") else each for each in command]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == WRONG_USAGE, result.output
    assert "lies in the input" in result.stderr
    assert not (tmp_path / "IN" / "out").exists()


def test_an_evaluation_is_not_written_into_its_data_set(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="evaluation needs the extra glionode[train]")
    write_ball_dataset(tmp_path / "IN", BallCase(()))
    result = CliRunner().invoke(app, ["evaluate", "phantom-demo", str(tmp_path / "IN"), str(tmp_path / "IN" / "out")])
    assert result.exit_code == WRONG_USAGE, result.output
    assert "lies in the input" in result.stderr


def test_a_demonstration_removes_nothing_but_its_own_files(tmp_path: Path) -> None:
    (tmp_path / "phantom").mkdir()
    (tmp_path / "phantom" / "truth.json").write_text("{}")
    (tmp_path / "thesis.txt").write_text("of somebody")
    result = CliRunner().invoke(app, ["demo", str(tmp_path)])
    assert result.exit_code == WRONG_USAGE
    assert "holds other files" in result.stderr
    assert (tmp_path / "thesis.txt").is_file()
