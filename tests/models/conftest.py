"""Fixtures that write, change and damage a small model package."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from models.package import ModelPackage
from tests.support.tiny_package import make_package

__all__ = ["make_package"]


@pytest.fixture
def edit() -> Callable[[Path, str, str], None]:
    """Return a function that replaces a text in the model.toml of a package."""

    def replace(folder: Path, old: str, new: str) -> None:
        where = folder / "model.toml"
        text = where.read_text()
        assert old in text
        where.write_text(text.replace(old, new))

    return replace


@pytest.fixture
def swap_weights() -> Callable[[ModelPackage, bytes], None]:
    """Return a function that replaces the weights of a package, and their sha256 in model.toml."""

    def swap(package: ModelPackage, content: bytes) -> None:
        package.weights_path.write_bytes(content)
        where = package.folder / "model.toml"
        text = where.read_text()
        where.write_text(text.replace(package.weights_sha256, hashlib.sha256(content).hexdigest()))

    return swap
