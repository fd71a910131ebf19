"""Hostile objects, from the listener to the worker: a status, a named error and bounded memory; others go on."""

import json
import logging
import struct
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from pipeline.scan import scan
from plugin.archive.file_meta import encode_file_meta
from plugin.archive.quarantine import count_quarantined
from plugin.jobs.prior_results import PriorResults
from plugin.listener.c_store_handler import (
    NOT_A_DATA_SET,
    OTHER_IMAGE_UNDER_THIS_UID,
    OTHER_UID_IN_COMMAND,
    SUCCESS,
    UNUSABLE_UID,
)
from plugin.settings.sections import Settings
from plugin.worker.context import open_worker_context
from plugin.worker.stopwatch import Stopwatch
from plugin.worker.study_segmenter import segment_files
from tests.support.hostile_dicom import bomb, encoded, mutated, send_all
from tests.support.listener import MakeListener, association, send_bytes
from tests.support.node import MARKER, make_instance, new_study_uid
from tests.support.paths import ROOT

MUTATIONS = 400
STATUSES = {SUCCESS, NOT_A_DATA_SET, UNUSABLE_UID, OTHER_UID_IN_COMMAND, OTHER_IMAGE_UNDER_THIS_UID}
BOMB_MIB = 1024

SCAN = """
import json, resource, sys
from pathlib import Path
from pipeline.scan import scan
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
before = peak()
found = scan([Path(sys.argv[1])])
images = [each for study in found.studies for series in study.series for each in series.instances]
reasons = [each.reason for each in found.ignored]
print(json.dumps({"grown_mib": peak() - before, "reasons": reasons, "pixels": [each.has_pixels for each in images]}))
"""


def scan_in_process(folder: Path) -> dict[str, Any]:
    """Scan a folder in a process of its own; return what it finds, and by how many MiB the process grew."""
    command = [sys.executable, "-c", SCAN, str(folder)]
    found = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    return dict(json.loads(found.stdout))


def peak_mib() -> int:
    """Return the peak memory of this process."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) >> 10


def test_a_decompression_bomb_is_stored_and_never_inflated(make_listener: MakeListener, tmp_path: Path) -> None:
    listener, instance = make_listener(), make_instance(new_study_uid())
    uid, study = instance.SOPInstanceUID, instance.StudyInstanceUID
    content = bomb(instance, BOMB_MIB)
    assert len(content) < 4 << 20
    before = peak_mib()
    with association(listener.port, syntax=DeflatedExplicitVRLittleEndian) as peer:
        assert send_bytes(peer, uid, content).Status == SUCCESS, "up to its pixels it is well formed"
        next_one = make_instance(study)
        assert send_bytes(peer, next_one.SOPInstanceUID, encoded(next_one, DeflatedExplicitVRLittleEndian)).Status == 0
    assert peak_mib() - before < 100
    found = scan_in_process(tmp_path / "archive")
    assert found["grown_mib"] < 600, "256 MiB, and as much again while they grow"
    assert found["reasons"] == ["a deflated file of more than 256 MiB"]
    assert found["pixels"] == [True], "the next image is read"


def test_a_study_of_decompression_bombs_fails_with_a_reason(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    instance = make_instance(new_study_uid())
    head = encode_file_meta(instance.SOPClassUID, instance.SOPInstanceUID, DeflatedExplicitVRLittleEndian)
    path = tmp_path / f"{instance.SOPInstanceUID}.dcm"
    path.write_bytes(head + bomb(instance, 300))
    context = open_worker_context(Settings(), device="cpu")
    with caplog.at_level(logging.WARNING):
        outcome = segment_files([path], tmp_path / "out", context, PriorResults(datetime.now(UTC)), Stopwatch())
    assert outcome.status == "failed"
    assert outcome.reason is not None
    assert "None of 1 files" in outcome.reason
    assert "more than 256 MiB" in outcome.reason
    assert f"1 of 1 images cannot be read; {path.stem} is" in caplog.text


@pytest.mark.parametrize(
    ("tag", "status"),
    [(0x00080008, NOT_A_DATA_SET), (0x7FE00010, SUCCESS)],
    ids=["before its UIDs", "its pixels"],
)
def test_a_length_of_four_gigabytes_takes_no_memory(
    make_listener: MakeListener, tmp_path: Path, tag: int, status: int
) -> None:
    listener, instance = make_listener(), make_instance(new_study_uid())
    whole = encoded(instance, ExplicitVRLittleEndian)
    place = whole.index(struct.pack("<HH", 0x7FE0, 0x0010)) if tag == 0x7FE00010 else 0
    element = struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, b"OW", 0, 0xFFFFFFFE)
    before = peak_mib()
    with association(listener.port) as peer:
        content = whole[:place] + element + whole[place + 12 if place else place :]
        assert send_bytes(peer, instance.SOPInstanceUID, content).Status == status
        assert peer.send_c_store(make_instance(instance.StudyInstanceUID)).Status == SUCCESS
    assert peak_mib() - before < 50
    found = scan_in_process(tmp_path / "archive")
    assert found["grown_mib"] < 100
    assert sorted(found["pixels"]) == ([True] if status else [False, True]), "its pixels count as cut short"


def test_mutated_objects_are_stored_or_refused_and_can_be_scan_in_process(
    make_listener: MakeListener, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    listener = make_listener(quarantine_files=50)
    objects = list(mutated(MUTATIONS, studies=4, seed=7))
    before = peak_mib()
    statuses = send_all(listener.port, objects)
    assert statuses.total() == MUTATIONS
    assert set(statuses) <= STATUSES
    assert min(statuses[SUCCESS], statuses[NOT_A_DATA_SET]) > MUTATIONS // 10, "some of each"
    assert sum(len(listener.archive.files(study)) for study in listener.archive.studies()) == statuses[SUCCESS]
    assert 0 < count_quarantined(tmp_path) <= 50
    assert not list((tmp_path / "incoming").iterdir())
    assert peak_mib() - before < 100
    for study in listener.archive.studies():
        scan(listener.archive.files(study))
    good = make_instance(new_study_uid())
    with association(listener.port) as peer:
        assert peer.send_c_store(good).Status == SUCCESS
    (found,) = scan(listener.archive.files(good.StudyInstanceUID)).studies
    assert found.study_instance_uid == good.StudyInstanceUID
    output = capfd.readouterr()
    assert MARKER not in caplog.text + output.out + output.err
