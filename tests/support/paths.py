"""Paths of the checkout and of the end-to-end tests."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
END_TO_END = ROOT / "tests" / "end_to_end"
