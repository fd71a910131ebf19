"""Freed memory is kept in the process, until its end or that of a block."""

import subprocess
import sys

import pytest

pytest.importorskip("resource", reason="page faults are counted on POSIX alone")

FAULTS = """
import resource, sys
import torch
from models.malloc import freed_memory_kept, keep_freed_memory
torch.set_num_threads(1)
if sys.argv[1] == "kept" and not keep_freed_memory():
    print("not glibc")
    sys.exit()
block = freed_memory_kept()
if sys.argv[1] in ("in block", "after block"):
    block.__enter__()
for _ in range(10):
    torch.ones(20_000_000)
if sys.argv[1] == "after block":
    block.__exit__(None, None, None)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(20_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    """Count the pages that the kernel gives to ten tensors of 80 MB, one after the other."""
    out = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True).stdout
    if "not glibc" in out:
        pytest.skip("the C library is not glibc")
    return int(out)


def test_freed_memory_is_not_requested_from_the_kernel_again() -> None:
    assert faults("kept") < 0.5 * faults("given back")


def test_a_block_keeps_freed_memory_and_returns_it_at_its_end() -> None:
    given_back = faults("given back")
    assert faults("in block") < 0.5 * given_back
    assert faults("after block") > 0.5 * given_back
