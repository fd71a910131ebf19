"""The version of glionode: that of the installed package, which `pyproject.toml` names and nothing else repeats."""

from functools import cache
from importlib.metadata import version


@cache
def software_version() -> str:
    """Return the version, such as 0.1.0."""
    return version("glionode")
