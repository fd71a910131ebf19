"""What a measurement depends on, in one number: model, settings and the code that measures. Measures nothing.

Results that were kept under one fingerprint are those that a run under the same one would find.
"""

import ast
import hashlib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from models.training.evaluation.measure_case import Measuring

_ROOT = Path(__file__).parents[3]
_ROOMS = ("models", "pipeline", "dicom_seg")
_LIBRARIES = ("torch", "monai", "SimpleITK", "numpy", "scipy")
_START = "models.training.evaluation.measure_case"


def fingerprint(measuring: Measuring) -> str:
    """64 hexadecimal digits. Raises OSError where package or code cannot be read."""
    digest = hashlib.sha256((measuring.package_folder / "model.toml").read_bytes())  # which names the weights' sha256
    digest.update(repr((measuring.spacing_mm, measuring.device, measuring.alignment)).encode())
    digest.update(" ".join(f"{name} {version(name)}" for name in _LIBRARIES).encode())
    for path in sorted(sources(_START)):
        digest.update(f"{path.relative_to(_ROOT)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def sources(module: str) -> set[Path]:
    """The file of a module, those that it imports, directly or not, of ours, and the tables beside them."""
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
    """Also inside functions; of `from a import b` both a and a.b, of which either may be a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
