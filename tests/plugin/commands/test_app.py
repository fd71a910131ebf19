"""The command line: its output and exit statuses. tests/end_to_end segments whole studies with it."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.main import get_command

from models.labels import Role
from models.package import BUNDLED, ModelPackage
from models.training.synthetic.tumour import Variant
from plugin.commands.app import app
from tests.support.node import glionode, make_instance, new_study_uid, write_instance

pytestmark = pytest.mark.usefixtures("no_settings_of_this_machine")
COMMANDS = tuple(get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_text(command: str) -> None:
    status, text = glionode(command, "--help")
    assert status == 0
    assert f"glionode {command}" in text
    assert len(text.split()) > 30


def test_the_command_line_is_imported_without_slow_libraries() -> None:
    """`glionode --help` has to answer quickly, so commands import what they need when they run."""
    slow = {"numpy", "procrastinate", "psycopg", "pydantic", "pydicom", "pynetdicom", "torch"}
    code = f"import sys, plugin.commands.app; print(sorted({slow!r} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_help_shows_every_command_in_its_group() -> None:
    status, text = glionode("--help")
    assert status == 0
    panels = re.findall(r"─ ([A-Z][a-z ]+) ─", text)
    assert panels == ["Options", "Use", "Node", "Models", "Data and training"], "no command is outside a group"
    shown = dict(zip(panels, re.split(r"─ [A-Z][a-z ]+ ─", text)[1:], strict=True))
    found = {name: re.findall(r"^│ ([a-z][a-z-]+)  ", panel, re.MULTILINE) for name, panel in shown.items()}
    assert set().union(*(found.values())) == set(COMMANDS)
    assert found["Use"] == ["segment", "explain", "inspect", "classify", "check", "phantom", "demo", "xnat-session"]
    assert found["Node"][:4] == ["serve", "listen", "work", "deliver"]
    assert found["Models"] == ["models"]
    assert found["Data and training"] == ["dataset", "pretrain", "finetune", "evaluate", "reader-study"]


@pytest.mark.parametrize(
    "command", ["dataset from-brats", "dataset from-dicom", "dataset check", "pretrain", "evaluate"]
)
def test_help_of_training_has_an_example_and_needs_no_torch(command: str) -> None:
    check = (
        "import sys; from plugin.commands.app import main;"
        f"sys.argv = ['glionode', *{command.split()!r}, '--help'];"
        "import atexit; atexit.register(lambda: print('torch' in sys.modules)); main()"
    )
    result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert f"glionode {command}" in result.stdout
    assert "Example:" in result.stdout
    assert result.stdout.strip().endswith("False")


def test_wrong_usage_ends_with_64() -> None:
    code = "from plugin.commands.app import main; main()"
    for arguments in (["nonsense"], ["segment"], ["segment", "--nonsense", "a", "b"], ["phantom", "x", "--seed", "-1"]):
        result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
        assert result.returncode == 64, result.stderr
        assert "Usage: glionode" in result.stderr


def test_the_bundled_model_is_listed_shown_and_verified() -> None:
    status, text = glionode("models", "list", "--json")
    assert status == 0
    (package,) = (each for each in json.loads(text) if each["name"] == "phantom-demo")
    assert package["intended_use"] == "demonstration"
    assert package["channels"] == ["ADC", "FLAIR", "T1CE"]
    assert (BUNDLED / "phantom-demo" / "weights.safetensors").stat().st_size < 12e6
    status, text = glionode("models", "show", "phantom-demo")
    assert status == 0
    assert "demonstration" in text.splitlines()[0].lower() or "demonstration" in text.splitlines()[2].lower()
    status, text = glionode("models", "verify", "phantom-demo")
    assert (status, package["sha256"] in text) == (0, True)


def test_an_installed_package_is_listed_before_the_bundled_one(tmp_path: Path) -> None:
    status, text = glionode("models", "install", BUNDLED / "phantom-demo")
    assert status == 0, text
    assert (tmp_path / "data" / "models" / "phantom-demo" / "model.toml").is_file()
    _, listed = glionode("models", "list", "--json")
    assert [each["name"] for each in json.loads(listed)].count("phantom-demo") == 2
    assert json.loads(listed)[0]["folder"].startswith(str(tmp_path))


def test_what_a_package_can_do_without_is_shown_before_its_card(make_package: Callable[..., ModelPackage]) -> None:
    package = make_package(optional=(Role.ADC,))
    where = package.folder / "model.toml"
    where.write_text(where.read_text().replace('"adc_abnormality"', '"adc_abnormality", inferred_from = ["FLAIR"]'))
    assert glionode("models", "install", package.folder)[0] == 0
    status, text = glionode("models", "show", "tiny")
    assert status == 0
    first, second, empty, title, *_ = text.splitlines()
    assert first == "Channels: ADC (optional), FLAIR, T1CE."
    assert second == "The label adc_abnormality may be inferred from FLAIR."
    assert (empty, title) == ("", "# tiny 1.0.0: demonstration, not for patients")
    assert json.loads(glionode("models", "list", "--json")[1])[0]["optional"] == ["ADC"]


def test_check_config_names_file_line_and_key(tmp_path: Path) -> None:
    file = tmp_path / "glionode.toml"
    file.write_text("[listener]\nae_title = 'GLIONODE'\nprot = 104\n")
    status, text = glionode("check-config", "--config", file)
    assert status == 64
    assert str(file) in text
    assert "prot" in text
    assert "3" in text


def test_check_config_accepts_the_defaults() -> None:
    assert glionode("check-config")[0] == 0


@pytest.mark.parametrize(
    ("command", "settings", "expected_status", "words"),
    [
        ("models show nobody", "", 1, "no model package called 'nobody'"),
        ("models verify nobody", "", 1, "no model package called 'nobody'"),
        ("models install .", "", 1, "no model.toml"),
        ("check-config --config glionode.toml", "[listener]\nhost = '0.0.0.0'\n", 64, "calling_ae_titles"),
        ("check-config --config glionode.toml", "[model]\nname = 'nobody'\n", 64, "nobody"),
        ("check-config --config glionode.toml", "[model]\nrequire = ['T2']\n", 64, "model.require names T2"),
        ("echo pacs", "", 64, "'pacs'"),
        ("classify nothing.txt", "", 64, "nothing.txt"),
        ("inspect .", "", 1, "no DICOM study"),
    ],
)
def test_a_refusal_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, settings: str, expected_status: int, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("glionode.toml").write_text(settings)
    status, text = glionode(*command.split())
    assert (status, words in text) == (expected_status, True), text


def test_status_of_a_node_that_does_not_run() -> None:
    status, text = glionode("status")
    assert status == 1
    assert "not running" in text
    status, text = glionode("status", "--json")
    assert status == 1
    assert json.loads(text)["running"] is None


def test_a_phantom_of_an_unknown_variant(tmp_path: Path) -> None:
    status, text = glionode("phantom", tmp_path / "out", "--variant", "imaginary")
    assert status == 64
    assert not (tmp_path / "out").exists()
    _, helped = glionode("phantom", "--help")
    for variant in Variant:
        assert variant.value in text
        assert variant.value in helped


def test_classify_answers_in_tsv_and_keeps_blanks(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_text(" t2_tirm_tra_dark-fluid \neADC\n")
    status, text = glionode("classify", file)
    assert status == 0
    rows = [line.split("\t") for line in text.splitlines()]
    assert rows[0] == ["description", "role", "confidence", "why"]
    assert [row[:2] for row in rows[1:]] == [[" t2_tirm_tra_dark-fluid ", "FLAIR"], ["eADC", "none"]]
    assert 0 < float(rows[1][2]) <= 1


def test_classify_uses_the_rules_of_the_settings(tmp_path: Path) -> None:
    rules, file, settings = tmp_path / "rules.toml", tmp_path / "list.txt", tmp_path / "glionode.toml"
    rules.write_text('format = 1\n[[term]]\nname = "ours"\npattern = "zirkon"\nweights = { T1CE = 20 }\n')
    settings.write_text(f"[choose]\nrules_file = {json.dumps(str(rules))}\n")
    file.write_text("zirkon\n")
    assert "zirkon\tnone" in glionode("classify", file)[1]
    assert "zirkon\tT1CE" in glionode("classify", file, "--config", settings)[1]
    rules.write_text(rules.read_text().replace("T1CE", "T9"))
    status, text = glionode("check-config", "--config", settings)
    assert status == 64
    assert str(rules) in text
    assert "line 3" in text  # where the rule has its name


@pytest.mark.parametrize("command", ["inspect", "explain"])
def test_brackets_in_a_description_are_not_markup(command: str, tmp_path: Path) -> None:
    instance = make_instance(new_study_uid())
    instance.SeriesDescription = "t1 [/ax] [red]"
    write_instance(instance, tmp_path / "study")
    status, text = glionode(command, tmp_path / "study")
    assert status == 0
    assert "t1 [/ax] [red]" in text
