"""What `glionode evaluate --synthetic` was asked for. Imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path

from models.training.synthetic.families import Family


@dataclass(frozen=True, slots=True)
class HeadsAsked:
    """What was asked for."""

    families: tuple[Family, ...]
    heads: int
    lesion_free: int
    studies: tuple[Path, ...]
    seed0: int
    spacing_mm: float
    workers: int
    threads: int
    device: str
    work: Path
