"""Where the checkout lies, for whatever reads a file of it or starts a process in it."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
END_TO_END = ROOT / "tests" / "end_to_end"
