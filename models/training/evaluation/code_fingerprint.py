"""Compute a fingerprint of what a measurement depends on: the model, the settings and the code that measures.

A result that was kept under a fingerprint is the one that a run with the same fingerprint would find.
"""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path

from models.training.evaluation.measure_case import MeasureSettings

_ROOT = Path(__file__).parents[3]
_ROOMS = ("models", "pipeline", "dicom_seg")
_LIBRARIES = ("torch", "monai", "SimpleITK", "numpy", "scipy")
_START = "models.training.evaluation.measure_case"


def fingerprint(settings: MeasureSettings) -> str:
    """Return 64 hexadecimal digits. Raises OSError where package or code cannot be read."""
    digest = hashlib.sha256((settings.package_folder / "model.toml").read_bytes())  # which names the weights' sha256
    digest.update(repr((settings.spacing_mm, settings.device, settings.alignment)).encode())
    digest.update(_code().encode())
    return digest.hexdigest()


@cache
def _code() -> str:
    digest = hashlib.sha256(" ".join(f"{name} {version(name)}" for name in _LIBRARIES).encode())
    for path in sorted(sources(_START)):
        text = path.read_text(encoding="utf-8")
        digest.update(f"{path.relative_to(_ROOT)}\n{syntax_tree(text) if path.suffix == '.py' else text}".encode())
    return digest.hexdigest()


def syntax_tree(source: str) -> str:
    """Return the syntax tree of a module as text; comments, docstrings and layout do not change it."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [each for each in node.body if not _is_docstring(each)]
    return ast.dump(tree)


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def sources(module: str) -> set[Path]:
    """Return the files of a module and of our modules that it imports, directly or not, with their TOML files."""
    found: set[Path] = set()
    waiting = [module]
    while waiting:
        path = _file_of(waiting.pop())
        if path is not None and path not in found:
            found |= {path, *path.parent.glob("*.toml")}
            waiting.extend(_imported(path))
    return found


def _file_of(module: str) -> Path | None:
    if module.split(".", maxsplit=1)[0] not in _ROOMS:
        return None
    path = _ROOT.joinpath(*module.split(".")).with_suffix(".py")
    return path if path.is_file() else None


def _imported(path: Path) -> Iterator[str]:
    """Yield what a file imports, also inside functions; of `from a import b` both a and a.b: either may be a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
