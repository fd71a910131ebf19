"""Where training on data sets can be tried."""

import importlib.util
import sys
from pathlib import Path

if importlib.util.find_spec("lightning") is None:
    # It comes with the extra glionode[train].
    collect_ignore_glob = ["test_*.py"]

# toy_heads.py is imported by name.
sys.path.insert(0, str(Path(__file__).parent))
