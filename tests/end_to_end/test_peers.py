"""A study through real peers: DCMTK's storescu in, DCMTK's storescp and Orthanc out."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Demonstration
from pydicom import dcmread


def test_a_study_comes_back_to_dcmtk_and_to_orthanc(
    demonstration: Demonstration, program: Callable[[str], str], tmp_path: Path
) -> None:
    peers = [program("storescu"), program("storescp"), program("Orthanc")]
    walk = Path(__file__).parent / "walk_with_peers.py"
    expected = {dcmread(path).SOPInstanceUID: dcmread(path) for path in (demonstration.out / "pacs").glob("*.dcm")}
    study, work = str(demonstration.study), str(tmp_path / "walk")
    command = [sys.executable, str(walk), study, work, str(len(expected)), *peers]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=290)
    if "no network namespace may be made here" in result.stderr:
        pytest.skip("no network namespace may be made here")
    assert result.returncode == 0, result.stderr
    walked = json.loads(result.stdout)
    for folder in (walked["received"], walked["fetched"]):
        found = {dcmread(path).SOPInstanceUID: dcmread(path) for path in Path(folder).iterdir()}
        assert found.keys() == expected.keys()
        for uid, each in found.items():
            assert each.get("PixelData") == expected[uid].get("PixelData")
            assert each.StudyInstanceUID == expected[uid].StudyInstanceUID
            said = subprocess.run(
                [program("dciodvfy"), "-new", str(each.filename)], capture_output=True, text=True, check=False
            ).stderr
            assert [line for line in said.splitlines() if line.startswith("Error")] == []
    log = Path(walked["log"]).read_text()
    assert "PHANTOM" not in log  # the patient's name
    assert "Traceback" not in log
