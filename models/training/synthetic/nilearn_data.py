"""Find the data files that nilearn contains. Imports neither nilearn nor nibabel."""

import importlib.util
from pathlib import Path

from pipeline.errors import GlionodeError


class NilearnMissing(GlionodeError):
    """nilearn or nibabel is not installed, or nilearn lacks a data file."""


def nilearn_data() -> Path:
    """Return nilearn's data folder. Raises NilearnMissing if nilearn or nibabel is not installed."""
    spec = importlib.util.find_spec("nilearn")
    if spec is None or not spec.submodule_search_locations or importlib.util.find_spec("nibabel") is None:
        raise NilearnMissing(
            "Synthetic heads of the families template and grown need nilearn, which is not installed. "
            "Install glionode[train]."
        )
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data"
