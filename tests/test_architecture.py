"""Test which rooms (folders) may import which, and what imports must not load."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

ROOMS = ("models", "pipeline", "dicom_seg", "plugin")
MAY_IMPORT = {
    "models": {"models"},
    "pipeline": {"models", "pipeline"},
    "dicom_seg": {"models", "pipeline", "dicom_seg"},
    "plugin": {"models", "pipeline", "dicom_seg", "plugin"},
}
MODULES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Return the full names of the modules that a file imports, at its top or inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_import_only_allowed_rooms(path: Path) -> None:
    parts = path.relative_to(ROOT).parts
    training = parts[:2] == ("models", "training")
    allowed = {"models", "pipeline", "dicom_seg"} if training else MAY_IMPORT[parts[0]]
    for name in imported(path):
        room = name.split(".")[0]
        if room in ROOMS:
            assert room in allowed, f"{parts[0]} must not import {name}"
        if name.startswith("models.training") and not training:
            assert parts[:2] == ("plugin", "commands"), f"only the command line imports {name}"


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


NAMES = {_module(path) for path in MODULES if path.name != "__init__.py"}


def _room(module: str) -> str:
    """Return the room of a module: a folder of `plugin` or of `models.training`, or another top-level folder."""
    parts = module.split(".")
    if parts[0] == "plugin":
        return ".".join(parts[:2])
    return ".".join(parts[:3]) if parts[:2] == ["models", "training"] else parts[0]


def _graph() -> dict[str, set[str]]:
    """Return the modules of the project that each module imports, at its top or inside functions."""
    graph: dict[str, set[str]] = {}
    for path in MODULES:
        if path.name != "__init__.py":
            names = {name for name in members(path) if name in NAMES}
            graph[_module(path)] = names - {_module(path)}
    return graph


def members(path: Path) -> set[str]:
    """Return the full names of the modules, and of the names in them, that a file imports."""
    names = imported(path)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def circle_in(graph: dict[str, set[str]]) -> list[str]:
    """Return a circle of a graph, from a node to itself; empty if there is none."""
    done: set[str] = set()

    def search(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node not in done:
            for other in sorted(graph.get(node, ())):
                if found := search(other, [*path, node]):
                    return found
            done.add(node)
        return []

    return next((found for node in sorted(graph) if (found := search(node, []))), [])


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circle_in(_graph()) == []


def test_no_rooms_import_each_other_in_a_circle() -> None:
    rooms: dict[str, set[str]] = {}
    for module, others in _graph().items():
        rooms.setdefault(_room(module), set()).update({_room(other) for other in others} - {_room(module)})
    assert circle_in(rooms) == []


def test_circle_in_finds_a_circle() -> None:
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle_in({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.parametrize(
    ("folder", "loose"),
    [("plugin", {"errors.py", "context.py", "logs.py"}), ("models/training", set())],
)
def test_loose_modules_are_few_and_named(folder: str, loose: set[str]) -> None:
    assert {path.name for path in (ROOT / folder).glob("*.py")} == {"__init__.py", *loose}


def test_tests_mirror_the_rooms() -> None:
    found = {
        path.parent.relative_to(ROOT / "tests") for room in ROOMS for path in (ROOT / "tests" / room).rglob("test_*.py")
    }
    assert {str(folder) for folder in found if not list((ROOT / folder).glob("*.py"))} == set()
    assert [str(path) for path in (ROOT / "tests" / "plugin").glob("test_*.py")] == []


def test_package_markers_are_empty() -> None:
    assert [path for path in MODULES if path.name == "__init__.py" and path.read_text().strip()] == []


@pytest.mark.parametrize(
    "module",
    [
        "plugin.commands.app",
        "pipeline.choose",
        "pipeline.scan",
        "pipeline.volume",
        "models.package",
        "plugin.settings.sections",
        "plugin.xnat.session",
        # The process that receives starts the worker, and is not to hold its libraries.
        "plugin.node.run",
        "plugin.worker.study_segmenter",
    ],
)
def test_light_modules_do_not_import_torch(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'torch', 'monai', 'SimpleITK', 'highdicom'}} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_segmenting_imports_no_database_nor_monai_with_all_that_it_imports() -> None:
    code = """
import sys
import plugin.worker.process_study
from models.network import NetworkSettings, build_network
for edge in (1, 2):
    build_network(NetworkSettings(init_filters=8, blocks_down=(1, 1), blocks_up=(1,), space_to_depth=edge), 3, 3)
unneeded = {"monai", "matplotlib", "pandas", "sklearn", "lightning", "tensorboard", "nibabel", "psycopg", "SimpleITK"}
print(sorted(unneeded & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_no_tracked_file_contains_a_path_of_this_machine() -> None:
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
