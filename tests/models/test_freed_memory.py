"""What was freed between blocks that stay is returned to the system."""

import os
import platform

import numpy as np
import pytest

from models.malloc import return_freed_memory
from tests.support.programs import memory_mib


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is told to")
def test_memory_between_blocks_in_use_is_returned() -> None:
    # 100 KiB is below the size that glibc maps by itself, so that each block lies among the others of the heap.
    blocks = [np.ones(100 * 1024, np.uint8) for _ in range(1000)]
    last = blocks[-1]
    del blocks
    before = memory_mib(os.getpid(), "VmRSS")
    return_freed_memory()
    assert before - memory_mib(os.getpid(), "VmRSS") > 80
    assert last.all()


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    return_freed_memory()
