"""Test Storage Commitment with Orthanc in both directions, and its DICOMweb as a destination."""

import json
from pathlib import Path

from tests.support.installed import OrthancInstallation
from tests.support.walks import run_walk


def test_orthanc_and_a_node_commit_to_each_other(orthanc: OrthancInstallation, tmp_path: Path) -> None:
    programs = [orthanc.program, orthanc.dicomweb_plugin]
    result = run_walk("walk_with_commitment", tmp_path / "walk", *programs, timeout_s=200)
    assert result.returncode == 0, result.stderr
    observed = json.loads(result.stdout)
    assert observed["echo"] == ["it answers", "it answers"]
    assert observed["requested_by_orthanc"] == [["Success", 2, []], ["Failure", 1, [0x0112, 0x0119]]]
    assert observed["requested_by_the_node"] == [["orthanc", "committed", 2], ["web", "sent", 2]]
    assert observed["stow"] == ["Sent", "NotSent", "Sent", "1"]
    assert "MARKERxPHI" not in result.stderr, "the log contains a patient's data"
