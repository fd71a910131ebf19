"""Test that commands, options, files and links of the pages exist, and that a test runs each command line."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from plugin.commands.app import app
from tests.support.documentation import PAGES, CommandLine, all_commands
from tests.support.paths import ROOT

COMMANDS = all_commands()
OURS = [command for command in COMMANDS if command.words[0].endswith("glionode")]

RUN_BY: dict[str, str] = {
    "segment": "tests/end_to_end/test_segment.py",
    "phantom": "tests/end_to_end/test_segment.py",
    "check": "tests/plugin/commands/test_check.py",
    "serve": "plugin/demo/run.py",
    "listen": "tests/end_to_end/walk_with_hosts.py",
    "work": "tests/end_to_end/walk_with_hosts.py",
    "deliver": "tests/end_to_end/walk_with_hosts.py",
    "xnat-session": "tests/plugin/commands/test_xnat.py",
    "diagnostics": "tests/plugin/node/test_diagnostics.py",
    "replacements": "tests/plugin/node/test_replacements.py",
    **dict.fromkeys(("backup", "restore"), "tests/plugin/backup/test_backup.py"),
    "models install": "tests/plugin/commands/test_app.py",
    "dataset from-brats": "tests/end_to_end/test_retraining.py",
    "dataset names": "tests/plugin/commands/test_dataset.py",
    "dataset from-dicom": "tests/end_to_end/test_retraining.py",
    "pretrain": "tests/end_to_end/test_retraining.py",
    "finetune": "tests/end_to_end/test_retraining.py",
    "evaluate": "tests/end_to_end/test_retraining.py",
    "release": "tests/plugin/jobs/test_held_results.py",
    "resend": "tests/plugin/node/test_resend.py",
    "reader-study make": "tests/plugin/commands/test_evaluate_on_dataset.py",
    "reader-study score": "tests/models/training/reader_study/test_scores.py",
    **dict.fromkeys(
        (
            *("status", "health", "jobs", "show", "retry", "cancel", "force", "purge", "adopt", "echo", "check-config"),
            *("explain", "inspect", "classify", "models list", "models show", "models verify"),
        ),
        "tests/plugin/commands/test_documented_commands.py",
    ),
}
"""The file that runs each command of glionode; the last file runs the lines of the pages themselves."""

NOT_RUN = {
    r"make demo": "tests/end_to_end/test_demo.py runs what it runs",
    r"make test|scripts/check.*|\.venv/bin/pytest .*": "it runs this test",
    r"scripts/mutate": "it takes minutes; tests/test_mutations.py checks its list",
    r"make \.venv/\.installed-test|scripts/install-(programs|viewers)": "`make test` has run it",
    r"scripts/install-current-orthanc": "needs root and a Debian mirror",
    r"(scripts/make-venv|scripts/install) /opt/.*|install -D .*|cp -r orthanc-config/systemd/.*": "needs root and /opt",
    r"systemd-sysusers|systemctl .*": "needs systemd as the first process; tests/test_systemd.py checks the units",
    r"docker .*|cd orthanc-config|sudo \./make-secrets": "needs Docker; tests/test_compose.py, test_dockerfile.py",
    r"\.venv/bin/python -m (tests\.end_to_end|benchmarks)\..*": "a measurement; the module is checked to exist",
    r"cp orthanc-config/[\w.]+ \.|cp out/viewers/.*|umask 077|openssl .*|sed -i .*|cat > glionode.toml <<END": "shell",
    r"/usr/sbin/Orthanc .*|storescu .*": "tests/end_to_end/test_orthanc.py runs both, in a network of its own",
}
"""Command lines of other programs, and why no test runs them unchanged."""


def name(command: CommandLine) -> str:
    return f"{command.page}:{command.line}"


def find_command(words: list[str]) -> tuple[Any, str, list[str]]:
    """Return the command that the words name, its path, and the remaining words."""
    found: Any = typer.main.get_command(app)
    path: list[str] = []
    while hasattr(found, "commands"):
        assert words, "no command is named"
        assert words[0] in found.commands, f"there is no command {words[0]!r}"
        found = found.commands[words[0]]
        path.append(words[0])
        words = words[1:]
    return found, " ".join(path), words


@pytest.mark.parametrize("command", OURS, ids=name)
def test_a_command_line_has_valid_options_and_arguments(command: CommandLine) -> None:
    found, _, words = find_command([word for word in command.words[1:] if word != "&"])
    context = typer.Context(found)
    values, left, order = found.make_parser(context).parse_args(list(words))
    assert left == []
    for parameter in order:
        if parameter.param_type_name == "argument":
            given = values.get(str(parameter.name))
            assert given not in (None, (), []) or not parameter.required, f"{parameter.name} is missing"
        elif hasattr(getattr(parameter, "type", None), "choices") and str(parameter.name) in values:
            parameter.type_cast_value(context, values[str(parameter.name)])


@pytest.mark.parametrize("command", OURS, ids=name)
def test_a_command_line_is_run_by_a_test(command: CommandLine) -> None:
    _, path, _ = find_command([word for word in command.words[1:] if word != "&"])
    text = (ROOT / RUN_BY[path]).read_text(encoding="utf-8")
    if "documented_commands" not in RUN_BY[path]:
        assert f'"{path.split()[-1]}"' in text, f"{RUN_BY[path]} does not run {path}"


@pytest.mark.parametrize("command", [command for command in COMMANDS if command not in OURS], ids=name)
def test_a_command_line_of_another_program_is_listed(command: CommandLine) -> None:
    assert [pattern for pattern in NOT_RUN if re.fullmatch(pattern, command.text)], command.text
    for word in command.words:
        if re.fullmatch(r"(scripts|orthanc-config|tests|requirements)/[\w./-]+", word):
            assert (ROOT / word).exists(), word
        if re.fullmatch(r"(tests|benchmarks)(\.\w+)+", word):
            assert (ROOT / f"{word.replace('.', '/')}.py").is_file(), word


def test_the_lists_name_only_commands_of_the_pages() -> None:
    paths = {find_command([word for word in command.words[1:] if word != "&"])[1] for command in OURS}
    assert sorted(RUN_BY.keys() - paths) == []
    others = [command.text for command in COMMANDS if command not in OURS]
    assert [pattern for pattern in NOT_RUN if not any(re.fullmatch(pattern, text) for text in others)] == []


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_have_targets(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            file, _, anchor = target.partition("#")
            there = (page.parent / file).resolve() if file else page
            assert there.exists(), target
            if anchor:
                assert anchor in anchors(there), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_named_by_a_page_exist(page: Path) -> None:
    """Words in backticks that look like paths of the checkout are paths of it."""
    text = page.read_text(encoding="utf-8")
    rooms = "models|pipeline|dicom_seg|plugin|tests|benchmarks|docs|scripts|requirements|orthanc-config"
    named = re.findall(rf"`((?:{rooms})/[\w./*-]+)`", text)
    named += [
        module.replace(".", "/") + ".py" for module in re.findall(r"python -m ((?:tests|benchmarks)\.[\w.]+)", text)
    ]
    assert [path for path in named if not list(ROOT.glob(path))] == []


def test_every_page_is_linked_from_the_readme() -> None:
    linked = set(re.findall(r"\]\(([\w./]+\.md)", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert {str(page.relative_to(ROOT)) for page in PAGES} - {"README.md"} == linked


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
