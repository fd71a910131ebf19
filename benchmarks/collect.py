"""Collect the parts that benchmarks/gpu.sh measured in one JSON file.

    python -m benchmarks.collect FOLDER OUT PART ...

FOLDER holds for each part its exit status with the times of start and end (PART.status), what it printed (PART.log) and
what it measured (PART.json), if it did. The exit status is 1 if a part failed.
"""

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine

LAST_LINES = 15


def collect(folder: Path, parts: list[str]) -> dict[str, Any]:
    """Return all parts with their exit status, their seconds, and their result or their last lines."""
    found: dict[str, Any] = {}
    for part in parts:
        status, started, ended = (folder / f"{part}.status").read_text().split()
        seconds = round(float(ended) - float(started), 2)
        result = folder / f"{part}.json"
        found[part] = {"exit_status": int(status), "seconds": seconds, "result": None}
        if result.is_file():
            found[part]["result"] = json.loads(result.read_text())
        if status != "0":
            found[part]["last_lines"] = (folder / f"{part}.log").read_text().splitlines()[-LAST_LINES:]
    return found


def main() -> None:
    """Write the results of all parts to one JSON file; exit with status 1 if a part failed."""
    folder, out, *parts = sys.argv[1:]
    found = collect(Path(folder), parts)
    Path(out).write_text(json.dumps({"machine": describe_machine(), "parts": found}, indent=1) + "\n")
    sys.exit(int(any(part["exit_status"] or part["result"] is None for part in found.values())))


if __name__ == "__main__":
    main()
