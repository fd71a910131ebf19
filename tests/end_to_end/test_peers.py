"""Test a node with real peers: DCMTK's storescu sends, DCMTK's storescp and Orthanc receive."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from pydicom import dcmread

from tests.support.command_line import Demonstration
from tests.support.walks import run_walk


def test_dcmtk_and_orthanc_receive_the_results_of_a_study(
    demonstration: Demonstration, program: Callable[[str], str], tmp_path: Path
) -> None:
    peers = [program("storescu"), program("storescp"), program("Orthanc")]
    expected = {dcmread(path).SOPInstanceUID: dcmread(path) for path in (demonstration.out / "pacs").glob("*.dcm")}
    arguments = [demonstration.study, tmp_path / "walk", str(len(expected)), *peers]
    result = run_walk("walk_with_peers", *arguments, timeout_s=290)
    assert result.returncode == 0, result.stderr
    observed = json.loads(result.stdout)
    for folder in (observed["received"], observed["fetched"]):
        found = {dcmread(path).SOPInstanceUID: dcmread(path) for path in Path(folder).iterdir()}
        assert found.keys() == expected.keys()
        for uid, each in found.items():
            assert each.get("PixelData") == expected[uid].get("PixelData")
            assert each.StudyInstanceUID == expected[uid].StudyInstanceUID
            output = subprocess.run(
                [program("dciodvfy"), "-new", str(each.filename)], capture_output=True, text=True, check=False
            ).stderr
            assert [line for line in output.splitlines() if line.startswith("Error")] == []
    log = Path(observed["log"]).read_text()
    assert "PHANTOM" not in log  # the patient's name
    assert "Traceback" not in log
