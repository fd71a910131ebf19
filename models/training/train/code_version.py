"""Which code trained a model."""

import importlib.metadata
import subprocess
from pathlib import Path


def code_version() -> str:
    """Version of glionode, and in a git checkout the commit, marked where files differ from it."""
    version = importlib.metadata.version("glionode")
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return version
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=root, capture_output=True, text=True, timeout=30, check=True,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return version
    return f"{version} ({described})"
