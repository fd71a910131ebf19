"""What a process that segments asks of the system, whatever has been imported before."""

import subprocess
import sys
from pathlib import Path

import pytest

SHOW_FLAGS = """
import plugin.worker.process_study
from plugin.settings.sections import Settings
from plugin.worker.context import open_worker_context

open_worker_context(Settings(), device="cpu")
import torch

voxels = torch.zeros(2**24)
middle = voxels.data_ptr() + 2**25
inside = False
for line in open("/proc/self/smaps"):
    first, _, rest = line.partition(" ")
    if "-" in first:
        low, high = (int(end, 16) for end in first.split("-"))
        inside = low <= middle < high
    elif inside and first == "VmFlags:":
        print(rest)
"""


@pytest.mark.skipif(
    not Path("/sys/kernel/mm/transparent_hugepage/enabled").exists(), reason="this kernel has no transparent huge pages"
)
def test_large_tensors_are_in_large_pages() -> None:
    flags = subprocess.run(
        [sys.executable, "-c", SHOW_FLAGS], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "hg" in flags  # MADV_HUGEPAGE, see proc(5)
