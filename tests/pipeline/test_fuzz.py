"""Damaged headers give a result or a named error, and never a crash, a hang or a huge allocation."""

import os
import resource
import struct
import time
from contextlib import suppress

import numpy as np
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from models.labels import Role
from pipeline.choose import Selected, choose, explain, load_rules
from pipeline.errors import GlionodeError
from pipeline.read import read_volume
from pipeline.scan import scan
from pipeline.volume import Geometry

CASES = int(os.environ.get("GLIONODE_FUZZ_CASES", "1000"))
BATCHES = 4
SLOWEST_S = 5.0
MOST_MEMORY_MIB = 700
SPITEFUL_NUMBERS = (
    b"0",
    b"-1",
    b"1e308",
    b"nan",
    b"inf",
    b"99999999999",
    b"\\",
    b"",
    b"1\\1\\1",
    b"\xff\xfe",
    b"65535",
)


def damaged(content: bytes, random: np.random.Generator) -> bytes:
    """Return the content with a few random errors, mostly in its header."""
    wounded = bytearray(content)
    for _ in range(int(random.integers(1, 4))):
        header_end = max(200, len(wounded) - 400)
        place = int(random.integers(132, header_end)) if len(wounded) > 200 else 0
        kind = int(random.integers(0, 7))
        if kind == 0:
            wounded[place] = int(random.integers(0, 256))
        elif kind == 1:
            wounded[place : place + 4] = struct.pack(
                "<L", int(random.choice([0, 1, 2**31, 2**32 - 1, 2**32 - 2, 70000]))
            )
        elif kind == 2:
            del wounded[place : place + int(random.integers(1, 40))]
        elif kind == 3:
            wounded[place:place] = random.bytes(int(random.integers(1, 40)))
        elif kind == 4:
            del wounded[int(random.integers(1, len(wounded))) :]
        elif kind == 5:
            spite = SPITEFUL_NUMBERS[int(random.integers(0, len(SPITEFUL_NUMBERS)))]
            wounded[place : place + len(spite)] = spite
        else:  # a binary number of the image's layout: rows, columns, bits, frames
            tag = [b"\x28\x00\x10\x00", b"\x28\x00\x11\x00", b"\x28\x00\x00\x01", b"\x28\x00\x08\x00"][
                random.integers(0, 4)
            ]
            at = bytes(wounded).find(tag)
            if at > 0:
                wounded[at + 8 : at + 10] = struct.pack("<H", int(random.choice([0, 1, 7, 65535])))
    return bytes(wounded)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_an_answer_or_a_named_error(make, batch):
    make.syntax = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless)[batch]
    description = ("t1_mprage_KM", "FLAIR", "ADC", "T2")[batch]
    grid = Geometry.axial((3, 36, 40), (3.0, 1.5, 1.25), (4.0, -7.0, 11.0), "1.2.3")
    paths = [*make.classic(grid, description, EchoTime=3, RepetitionTime=2000), make.enhanced(grid, "t1 KM")]
    whole = {path: path.read_bytes() for path in paths}
    rules = load_rules()
    random = np.random.default_rng([batch, CASES])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for case in range(CASES // BATCHES):
        victim = paths[int(random.integers(0, len(paths)))]
        victim.write_bytes(damaged(whole[victim], random))
        started = time.perf_counter()
        try_everything(make.folder, rules)
        assert time.perf_counter() - started < SLOWEST_S, f"case {case} took too long"
        victim.write_bytes(whole[victim])
    # ru_maxrss is in KiB on Linux.
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < MOST_MEMORY_MIB


def try_everything(folder, rules):
    """Do what `explain` and `segment` do with this folder, up to the volumes."""
    for study in scan([folder]).studies:
        explain(study, rules)
        chosen = choose(study, (Role.T1CE,), rules)
        wanted = [(one.series, one.role) for one in chosen.choices] if isinstance(chosen, Selected) else []
        for series, role in [*wanted, *((series, Role.ADC) for series in study.series)]:
            with suppress(GlionodeError):
                volume = read_volume(series, role)
                assert len(volume.frames) == volume.geometry.shape[0]
                assert np.isfinite(volume.geometry.affine).all()
