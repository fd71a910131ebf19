"""Describe the machine that a benchmark runs on."""

import os
import platform
import resource
from pathlib import Path


def describe_machine() -> dict[str, object]:
    """Return the processor's name, the cores that this process may use, and the size of a memory page in KiB."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "processor": models[0].split(":")[1].strip() if models else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "page_kib": resource.getpagesize() // 1024,
    }
