"""Paths of the checkout."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
END_TO_END = ROOT / "tests" / "end_to_end"
