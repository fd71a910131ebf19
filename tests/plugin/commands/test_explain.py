"""`glionode explain` says for every series what it is and why; its JSON lacks nothing that its table shows."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import dcmread
from typer.testing import CliRunner

from models.labels import Role
from models.package import ModelPackage
from plugin.commands.app import app
from tests.support.node import new_study_uid
from tests.support.small_study import write_small_study

runner = CliRunner()


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study whose ADC map is that of a knee, and whose T1CE came as two series."""
    for path in write_small_study(new_study_uid(), tmp_path / "study"):
        image = dcmread(path)
        if image.SeriesNumber == 3:
            image.BodyPartExamined = "KNEE"
        if image.SeriesNumber == 1:
            image.AcquisitionDate, image.AcquisitionTime = "20240101", "100700"
            if image.InstanceNumber > 6:
                image.SeriesInstanceUID, image.SeriesNumber = f"{image.SeriesInstanceUID}.9", 9
        image.save_as(path)
    return tmp_path / "study"


def test_json_has_what_the_table_has(study: Path) -> None:
    shown = runner.invoke(app, ["explain", str(study)], env={"COLUMNS": "300"})
    told = runner.invoke(app, ["explain", str(study), "--json"])
    assert shown.exit_code == told.exit_code == 0
    document = told.stdout
    # Each cell of the last column, line by line.
    cells = [line.split("│")[-2].strip() for line in shown.stdout.splitlines() if line.startswith("│")]
    texts = [cell.removeprefix("not chosen: ").removeprefix("note: ") for cell in cells if cell]
    assert any(cell.startswith("not chosen: ") for cell in cells)
    assert any(cell.startswith("note: ") for cell in cells)
    for text in texts:
        assert json.dumps(text, ensure_ascii=False) in document


def test_a_role_that_is_missing_is_explained(study: Path) -> None:
    """The map that was ruled out is named by number and UID, with the reason and without its description."""
    (document,) = json.loads(runner.invoke(app, ["explain", str(study), "--json"]).stdout)
    (adc,) = (each for each in document["series"] if each["series_number"] == 3)
    assert document["selected"] == {}
    assert document["not_eligible"] == (
        f"no ADC map among 5 series; series 3 ({adc['series_instance_uid']}) seems to be an ADC map, but was ruled "
        "out: other body part"
    )


def test_a_series_that_the_model_can_do_without_is_said_to_be_absent(
    study: Path, make_package: Callable[..., ModelPackage], tmp_path: Path
) -> None:
    folder = make_package(optional=(Role.ADC,), root=tmp_path / "models").folder
    folder.rename(folder.with_name("tiny"))
    model = {"GLIONODE_MODEL__NAME": "tiny", "GLIONODE_MODEL__INSTALLED_DIR": str(tmp_path / "models")}
    (document,) = json.loads(runner.invoke(app, ["explain", str(study), "--json"], env=model).stdout)
    assert (document["absent"], document["not_eligible"]) == (["ADC"], None)
    assert set(document["selected"]) == {"FLAIR", "T1CE"}
    assert document["why_absent"].startswith("no ADC map among 5 series; series 3 (")
    shown = runner.invoke(app, ["explain", str(study)], env=model | {"COLUMNS": "300"})
    assert f"Segmented without ADC: {document['why_absent']}." in shown.stdout
    required = model | {"GLIONODE_MODEL__REQUIRE": '["ADC"]'}
    (document,) = json.loads(runner.invoke(app, ["explain", str(study), "--json"], env=required).stdout)
    assert document["not_eligible"] is not None


def test_joined_series_are_one_entry_that_names_its_parts(study: Path) -> None:
    (document,) = json.loads(runner.invoke(app, ["explain", str(study), "--json"]).stdout)
    (t1ce,) = (each for each in document["series"] if each["taken_for"] == "T1CE")
    assert t1ce["instance_count"] == 13
    assert [one["series_number"] for one in t1ce["joined"]] == [1, 9]


def test_the_choice_for_the_served_model_is_told(tmp_path: Path) -> None:
    uid = new_study_uid()
    write_small_study(uid, tmp_path / "study")
    (document,) = json.loads(runner.invoke(app, ["explain", str(tmp_path / "study"), "--json"]).stdout)
    assert document["not_eligible"] is None
    assert document["selected"] == {"T1CE": f"{uid}.1", "FLAIR": f"{uid}.2", "ADC": f"{uid}.3"}
