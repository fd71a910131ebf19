"""Storage Commitment with Orthanc in both directions, and its DICOMweb as a destination."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.walks import run_walk

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def test_orthanc_and_a_node_commit_to_each_other(program: Callable[[str], str], tmp_path: Path) -> None:
    if not PLUGIN.exists():
        pytest.skip("Orthanc's DICOMweb is missing; `make test` as root installs it")
    result = run_walk("walk_with_commitment", tmp_path / "walk", program("Orthanc"), PLUGIN, timeout_s=200)
    assert result.returncode == 0, result.stderr
    seen = json.loads(result.stdout)
    assert seen["echo"] == ["it answers", "it answers"]
    assert seen["asked_by_orthanc"] == [["Success", 2, []], ["Failure", 1, [0x0112, 0x0119]]]
    assert seen["asked_of_orthanc"] == [["orthanc", "committed", 2], ["web", "sent", 2]]
    assert seen["stow"] == ["Sent", "NotSent", "Sent", "1"]
    assert "MARKERxPHI" not in result.stderr, "the log shows no patient"
