"""benchmarks/gpu.sh runs without a GPU, and a part that fails stands in its JSON."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support.paths import ROOT


def test_the_script_runs_on_a_cpu_and_records_what_fails(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    options = ["--device", "cpu", "--small", "--parts", "align no-such-part training"]
    done = subprocess.run(
        [str(ROOT / "benchmarks" / "gpu.sh"), str(out), *options],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    found = json.loads(out.read_text())["parts"]
    failed = found.pop("no-such-part")
    assert failed["exit_status"] == 2
    assert any("invalid choice" in line for line in failed["last_lines"])
    assert {name: part["exit_status"] for name, part in found.items()} == {"align": 0, "training": 0}, found
    assert set(found["training"]["result"]["seconds"]) == {"float32", "bfloat16"}
