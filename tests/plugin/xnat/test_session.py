"""XNAT's layouts on disk, and the scan types and IDs read from them."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.scan import scan
from plugin.xnat.session import XnatIds, XnatSession, find_sessions, with_scan_types
from tests.support.node import make_instance, write_instance

SESSION_XML = """<?xml version="1.0" encoding="UTF-8"?>
<xnat:MRSession xmlns:xnat="http://nrg.wustl.edu/xnat" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
    ID="XNAT_E00007" project="GLIOMA" label="any">
  <xnat:subject_ID>XNAT_S00003</xnat:subject_ID>
  <xnat:scans>
    <xnat:scan ID="4" UID="1.2.4" type="T1CE" xsi:type="xnat:mrScanData"><xnat:frames>30</xnat:frames></xnat:scan>
    <xnat:scan ID="7" type="FLAIR" xsi:type="xnat:mrScanData"/>
    <xnat:scan ID="9-MR1" type="ADC" xsi:type="xnat:mrScanData"/>
  </xnat:scans>
</xnat:MRSession>
"""


def write_series(folder: Path, series_uid: str) -> None:
    write_instance(make_instance("1.2", series_uid), folder)


def types(session: XnatSession) -> dict[str, str]:
    (study,) = with_scan_types(scan([session.scans_folder]), session).studies
    return {series.series_instance_uid: series.archive_type for series in study.series}


@pytest.fixture
def archived(tmp_path: Path) -> Path:
    """A session in XNAT's archive layout, with scans that its XML lists by UID, by ID, by an ID with a dash, or not."""
    for name, uid in (("renamed", "1.2.4"), ("7", "1.2.7"), ("9-MR1", "1.2.9"), ("12", "1.2.12")):
        write_series(tmp_path / "SCANS" / name / "DICOM", uid)
    (tmp_path / "SCANS" / "7" / "DICOM" / "scan_7_catalog.xml").write_text("<cat:DCMCatalog xmlns:cat='c' ID='7'/>")
    return tmp_path


def test_the_archives_layout_with_the_sessions_xml(archived: Path) -> None:
    (archived / "session.xml").write_text(SESSION_XML)
    (session,) = find_sessions(archived)
    assert session.ids == XnatIds("XNAT_E00007", "GLIOMA", "XNAT_S00003")
    assert session.unreadable == ()
    assert types(session) == {"1.2.4": "T1CE", "1.2.7": "FLAIR", "1.2.9": "ADC", "1.2.12": ""}


def test_the_archives_layout_alone(archived: Path) -> None:
    (session,) = find_sessions(archived)
    assert session == XnatSession(archived / "SCANS")
    assert types(session) == {"1.2.4": "", "1.2.7": "", "1.2.9": "MR1", "1.2.12": ""}


def test_a_scans_own_xml(archived: Path) -> None:
    (archived / "SCANS" / "12" / "scan.xml").write_text(
        '<x:MRScan xmlns:x="http://nrg.wustl.edu/xnat" ID="12" type="T2"><x:frames>1</x:frames></x:MRScan>'
    )
    (session,) = find_sessions(archived)
    assert types(session)["1.2.12"] == "T2"


def test_a_downloads_layout(tmp_path: Path) -> None:
    write_series(tmp_path / "label" / "scans" / "4-T1_MPRAGE_Gd" / "resources" / "DICOM" / "files", "1.2.4")
    (session,) = find_sessions(tmp_path)
    assert types(session) == {"1.2.4": "T1_MPRAGE_Gd"}


def test_malformed_xml_is_listed_and_foreign_xml_is_ignored(archived: Path) -> None:
    (archived / "session.xml").write_text(SESSION_XML[:200])
    (archived / "other.xml").write_text("<Session ID='somebody-elses'/>")
    (session,) = find_sessions(archived)
    assert session.unreadable == (archived / "session.xml",)
    assert session.ids == XnatIds()


def test_several_sessions_and_no_session(tmp_path: Path) -> None:
    assert find_sessions(tmp_path) == ()
    for name in ("one", "two"):
        write_series(tmp_path / name / "SCANS" / "4-T1CE" / "DICOM", f"1.2.{len(name)}.{name == 'two':d}")
    assert [each.scans_folder.parent.name for each in find_sessions(tmp_path)] == ["one", "two"]


def test_scan_types_of_several_sessions_are_combined(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_series(tmp_path / name / "SCANS" / f"4-{name}" / "DICOM", f"1.2.{name == 'two':d}")
    found = scan([tmp_path])
    for session in find_sessions(tmp_path):
        found = with_scan_types(found, session)
    (study,) = found.studies
    assert {series.archive_type for series in study.series} == {"one", "two"}
    assert replace(study.series[0], archive_type="") in scan([tmp_path]).studies[0].series


def test_the_scan_in_which_most_images_of_a_series_lie_gives_the_type(tmp_path: Path) -> None:
    for number, folder in enumerate(("9-FLAIR", "7-T1CE", "7-T1CE"), start=1):
        instance = make_instance("1.2", "1.2.7", number=number)
        write_instance(instance, tmp_path / "SCANS" / folder / "DICOM")
    (session,) = find_sessions(tmp_path)
    assert types(session) == {"1.2.7": "T1CE"}
