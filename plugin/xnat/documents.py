"""The XML with which XNAT takes results in: a scan, and an assessor of the session. Knows no files.

The assessor is an ROI collection (icr:RoiCollection, of XNAT's OHIF viewer plugin), which that viewer lists and draws.
XNAT itself has nothing that fits: xnat:imageAssessorData is the base of all assessors and has no element of its own, so
no document can be one; xnat:QCManualAssessment says that a person judged the images.
Elements stand in the order of xnat.xsd and roi.xsd.
"""

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from xml.etree import ElementTree

from plugin.xnat.session import XNAT

_ICR = "http://icr.ac.uk/icr"


@dataclass(frozen=True, slots=True)
class Place:
    """Where in XNAT results belong; as XNAT made the IDs."""

    session_id: str
    project: str
    subject_id: str


@dataclass(frozen=True, slots=True)
class Result:
    """A DICOM object that becomes a scan."""

    modality: str
    """SEG or SR"""
    series_number: int
    series_instance_uid: str
    sop_instance_uid: str
    series_description: str
    """Ours, without a word of the patient"""
    made: datetime
    referenced_series: tuple[str, ...]


def scan_document(result: Result, session_id: str) -> bytes:
    """A scan of the session; XNAT replaces one of the same ID, and equal input gives an equal ID."""
    element = {"SEG": "SegScan", "SR": "SRScan"}[result.modality]
    attributes = {
        "ID": f"glionode-{result.series_number}",
        "type": f"glionode {result.modality}",
        "UID": result.series_instance_uid,
    }
    root = ElementTree.Element(f"{{{XNAT}}}{element}", attributes)
    _add(root, XNAT, "image_session_ID", session_id)
    _add(root, XNAT, "series_description", result.series_description)
    _add(root, XNAT, "modality", result.modality)
    return _text(root)


def assessor_document(result: Result, place: Place) -> bytes:
    """The ROI collection of a SEG; its ID depends on session and SEG alone, so that a second run replaces it."""
    key = sha256(f"{place.session_id} {result.sop_instance_uid}".encode()).hexdigest()[:12]
    attributes = {
        "ID": f"RoiCollection_glionode_{key}",
        "project": place.project,
        "label": f"glionode_{place.session_id}_{key}",
    }
    root = ElementTree.Element(f"{{{_ICR}}}RoiCollection", attributes)
    _add(root, XNAT, "date", result.made.strftime("%Y-%m-%d"))
    _add(root, XNAT, "time", result.made.strftime("%H:%M:%S"))
    _add(root, XNAT, "imageSession_ID", place.session_id)
    _add(root, _ICR, "UID", result.sop_instance_uid)
    _add(root, _ICR, "collectionType", "SEG")
    _add(root, _ICR, "subjectID", place.subject_id)
    references = ElementTree.SubElement(root, f"{{{_ICR}}}references")
    for uid in result.referenced_series:
        _add(references, _ICR, "seriesUID", uid)
    _add(root, _ICR, "name", result.series_description)
    return _text(root)


def _add(parent: ElementTree.Element, namespace: str, name: str, text: str) -> None:
    ElementTree.SubElement(parent, f"{{{namespace}}}{name}").text = text


def _text(root: ElementTree.Element) -> bytes:
    ElementTree.register_namespace("xnat", XNAT)
    ElementTree.register_namespace("icr", _ICR)
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True))
