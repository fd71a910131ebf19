"""Test a node with real peers: DCMTK's storescu sends, DCMTK's storescp and Orthanc receive."""

import json
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from pydicom import FileDataset, dcmread

from tests.support.command_line import Demonstration
from tests.support.walks import run_walk


def by_place(paths: Iterable[Path]) -> dict[tuple[str, int, int], FileDataset]:
    """Read objects of a result, by class, number of the series and number of the instance."""
    read = [dcmread(path) for path in paths]
    found = {(str(each.SOPClassUID), int(each.SeriesNumber), int(each.InstanceNumber)): each for each in read}
    assert len(found) == len(read)
    return found


def test_dcmtk_and_orthanc_receive_the_results_of_a_study(
    demonstration: Demonstration, program: Callable[[str], str], tmp_path: Path
) -> None:
    peers = [program("storescu"), program("storescp"), program("Orthanc")]
    expected = by_place((demonstration.out / "pacs").glob("*.dcm"))
    arguments = [demonstration.study, tmp_path / "walk", str(len(expected)), *peers]
    result = run_walk("walk_with_peers", *arguments, timeout_s=290)
    assert result.returncode == 0, result.stderr
    observed = json.loads(result.stdout)
    for folder in (observed["received"], observed["fetched"]):
        found = by_place(Path(folder).iterdir())
        assert found.keys() == expected.keys()
        for place, each in found.items():
            assert each.get("PixelData") == expected[place].get("PixelData")
            assert each.StudyInstanceUID == expected[place].StudyInstanceUID
            assert each.SOPInstanceUID != expected[place].SOPInstanceUID, "another analysis"
            output = subprocess.run(
                [program("dciodvfy"), "-new", str(each.filename)], capture_output=True, text=True, check=False
            ).stderr
            assert [line for line in output.splitlines() if line.startswith("Error")] == []
    log = Path(observed["log"]).read_text()
    assert "PHANTOM" not in log  # the patient's name
    assert "Traceback" not in log
