"""The rooms of the house: who may import whom, and what importing must not do."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("models", "pipeline", "dicom_seg", "plugin")
MAY_IMPORT = {
    "models": {"models"},
    "pipeline": {"models", "pipeline"},
    "dicom_seg": {"models", "pipeline", "dicom_seg"},
    "plugin": {"models", "pipeline", "dicom_seg", "plugin"},
}
MODULES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Full names of the modules that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_flow_one_way(path: Path) -> None:
    parts = path.relative_to(ROOT).parts
    training = parts[:2] == ("models", "training")
    allowed = {"models", "pipeline", "dicom_seg"} if training else MAY_IMPORT[parts[0]]
    for name in imported(path):
        room = name.split(".")[0]
        if room in ROOMS:
            assert room in allowed, f"{parts[0]} must not import {name}"
        if name.startswith("models.training") and not training:
            assert parts[:2] == ("plugin", "commands"), f"only the command line imports {name}"


def test_package_markers_are_empty() -> None:
    assert [path for path in MODULES if path.name == "__init__.py" and path.read_text().strip()] == []


@pytest.mark.parametrize(
    "module",
    ["plugin.cli", "pipeline.choose", "pipeline.scan", "pipeline.volume", "models.package", "plugin.settings"],
)
def test_light_modules_do_not_import_torch(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'torch', 'monai', 'SimpleITK', 'highdicom'}} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_nothing_is_copied_from_this_machine() -> None:
    """No absolute path of a home or work folder stands in what is committed."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    texts = (".py", ".toml", ".md", ".json", ".yaml", ".txt", ".csv", "")
    needles = ("/ro" + "ot/", "/wo" + "rk/", "/home/" + "user")
    found = [
        name
        for name in tracked.stdout.split()
        if Path(name).suffix in texts
        and any(needle in (ROOT / name).read_text(encoding="utf-8", errors="ignore") for needle in needles)
    ]
    assert found == []
