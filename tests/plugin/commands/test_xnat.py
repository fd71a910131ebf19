"""`glionode xnat-session`: input errors, and a session that is not eligible. run_dockerfile.sh runs a whole one."""

from pathlib import Path

import pytest

from tests.support.node import MARKER, glionode, make_instance, write_instance

pytestmark = pytest.mark.usefixtures("no_settings_of_this_machine")


@pytest.fixture
def session(tmp_path: Path) -> Path:
    write_instance(make_instance("1.2"), tmp_path / "session" / "SCANS" / "4" / "DICOM")
    return tmp_path / "session"


def run(*arguments: str | Path) -> tuple[int, str]:
    status, text = glionode("xnat-session", *arguments)
    return status, " ".join(text.split())


def test_a_session_without_the_roles_gets_a_report_and_old_outputs_are_removed(session: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "scan-seg" / "DICOM").mkdir(parents=True)
    status, text = run(session, out, "--session-id", "XNAT_E1", "--device", "cpu")
    assert status == 2, text
    assert "not eligible. no ADC map and no FLAIR and no T1 after contrast" in text
    assert [path.name for path in out.iterdir()] == ["results"]
    assert [path.name for path in (out / "results").iterdir()] == ["report.json"]
    assert MARKER not in text


def test_input_that_is_not_one_session_is_an_error(session: Path, tmp_path: Path) -> None:
    (tmp_path / "other" / "SCANS").mkdir(parents=True)
    for source, expected_status, words in (
        (tmp_path / "nowhere", 64, "is not an XNAT session: it has no folder SCANS"),
        (tmp_path, 64, "holds 2 XNAT sessions"),
        (tmp_path / "other", 1, "holds no DICOM study"),
    ):
        status, text = run(source, tmp_path / "out")
        assert (status, words in text) == (expected_status, True)
    assert not (tmp_path / "out").exists()


def test_a_malformed_id_is_not_printed(session: Path, tmp_path: Path) -> None:
    status, text = run(session, tmp_path / "out", "--subject-id", f"{MARKER}^NAME")
    assert status == 64
    assert "The value of --subject-id is not an XNAT ID" in text
    assert MARKER not in text


def test_damaged_xml_is_reported(session: Path, tmp_path: Path) -> None:
    (session / "session.xml").write_text("<xnat:MRSession")
    status, text = run(session, tmp_path / "out", "--device", "cpu")
    assert status == 2
    assert "session.xml is not valid XML" in text
