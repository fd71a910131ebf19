"""Read an XNAT image session from disk: the folder of its scans, its IDs, and the types of its scans.

There are two layouts: the archive's, SCANS/<id>/<resource>/..., which Container Service mounts; and that of a download,
scans/<id>-<type>/resources/<resource>/files/... The type of a scan is in the session's XML, never in the images. XNAT's
archive does not contain that XML, only catalogs of each scan's files, which have no types; so types are known only if
somebody puts the session's XML beside SCANS. Container Service could pass types on the command line, but as words of a
shell. XNAT derives them from series descriptions, which any sender of images controls, and Container Service would
refuse to run one with a ";".
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

from pipeline.majority import majority
from pipeline.study import Scan, Series

XNAT = "http://nrg.wustl.edu/xnat"
_SCANS = "scans"
_LARGEST_XML = 16 << 20
"""Bytes; a session's XML has a few kilobytes per scan."""


@dataclass(frozen=True, slots=True)
class XnatScan:
    """A scan as a document of XNAT describes it; absent attributes are empty."""

    scan_id: str
    series_instance_uid: str
    type: str


@dataclass(frozen=True, slots=True)
class XnatIds:
    """The IDs under which results are imported, as XNAT assigned them, such as XNAT_E00001; empty where unknown."""

    session_id: str = ""
    project: str = ""
    subject_id: str = ""


@dataclass(frozen=True, slots=True)
class XnatSession:
    """An image session in a folder."""

    scans_folder: Path
    ids: XnatIds = XnatIds()
    scans: tuple[XnatScan, ...] = ()
    unreadable: tuple[Path, ...] = ()
    """Documents that are not XML, or too large."""


def find_sessions(folder: Path) -> tuple[XnatSession, ...]:
    """Return the session in a folder, or else those in its subfolders; empty if the folder has neither layout."""
    found = _scans_folders(folder) or [each for inner in _folders(folder) for each in _scans_folders(inner)]
    return tuple(_read(each) for each in found)


def with_scan_types(found: Scan, session: XnatSession) -> Scan:
    """Return the studies with the scan type of each series, which is evidence for choosing series."""
    studies = (
        replace(
            study,
            series=tuple(
                replace(each, archive_type=_type_of(each, session) or each.archive_type) for each in study.series
            ),
        )
        for study in found.studies
    )
    return replace(found, studies=tuple(studies))


def _type_of(series: Series, session: XnatSession) -> str:
    by_uid = [each for each in session.scans if each.series_instance_uid == series.series_instance_uid]
    if by_uid:
        return by_uid[0].type
    paths = [one.path for one in series.instances if one.path.is_relative_to(session.scans_folder)]
    name = majority(path.relative_to(session.scans_folder).parts[0] for path in paths)
    if name is None:
        return ""
    by_id = [each for each in session.scans if each.scan_id == name and not each.series_instance_uid]
    return by_id[0].type if by_id else name.partition("-")[2]


def _read(scans_folder: Path) -> XnatSession:
    session = XnatSession(scans_folder)
    for path in _documents(scans_folder):
        try:
            if path.stat().st_size > _LARGEST_XML:
                raise ElementTree.ParseError
            root = ElementTree.parse(path).getroot()
        except (OSError, ElementTree.ParseError):
            session = replace(session, unreadable=(*session.unreadable, path))
            continue
        name = root.tag.removeprefix(f"{{{XNAT}}}")
        if name != root.tag and name.endswith("Session"):
            session = replace(
                session,
                ids=XnatIds(
                    root.get("ID", ""), root.get("project", ""), root.findtext(f"{{{XNAT}}}subject_ID", "").strip()
                ),
                scans=session.scans + tuple(map(_scan, root.iterfind(f"{{{XNAT}}}scans/{{{XNAT}}}scan"))),
            )
        elif name != root.tag and name.endswith("Scan"):
            session = replace(session, scans=(*session.scans, _scan(root)))
    return session


def _scan(element: ElementTree.Element) -> XnatScan:
    return XnatScan(element.get("ID", ""), element.get("UID", ""), element.get("type", ""))


def _documents(scans_folder: Path) -> Iterator[Path]:
    """Yield XML files beside the scans, then in each scan's folder; the session's own first, as it takes precedence."""
    for folder in (scans_folder.parent, scans_folder, *_folders(scans_folder)):
        yield from sorted(path for path in folder.glob("*.xml") if path.is_file())


def _scans_folders(folder: Path) -> list[Path]:
    return [each for each in _folders(folder) if each.name.lower() == _SCANS]


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.is_dir())
