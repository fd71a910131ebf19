"""Describe the machine that a benchmark runs on."""

import os
import platform
import resource
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def describe_machine() -> dict[str, object]:
    """Return the processor's name, the cores that this process may use, and the size of a memory page in KiB."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "processor": models[0].split(":")[1].strip() if models else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "page_kib": resource.getpagesize() // 1024,
    }


def describe_device(device: "torch.device") -> dict[str, object]:
    """Return torch's version, and the name and memory of a GPU, or the threads of the CPU."""
    import torch

    if device.type != "cuda":
        return {"torch": torch.__version__, "name": "CPU", "threads": torch.get_num_threads()}
    facts = torch.cuda.get_device_properties(device)
    memory_gib = round(facts.total_memory / 2**30, 1)
    return {"torch": torch.__version__, "name": facts.name, "memory_gib": memory_gib, "cuda": torch.version.cuda}
