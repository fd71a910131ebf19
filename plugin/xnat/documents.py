"""Build the XML documents by which XNAT imports results: a scan, and an assessor of the session.

The assessor is an ROI collection (icr:RoiCollection, of XNAT's OHIF viewer plugin), which that viewer lists and draws.
XNAT itself has no type that fits: xnat:imageAssessorData is only the base type of assessors and has no element of its
own, and xnat:QCManualAssessment says that a person assessed the images. Elements are in the order of xnat.xsd and
roi.xsd.
"""

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from xml.etree import ElementTree

from plugin.xnat.session import XNAT, XnatIds

_ICR = "http://icr.ac.uk/icr"


@dataclass(frozen=True, slots=True)
class ResultObject:
    """The attributes of a SEG or SR that the documents repeat."""

    modality: str
    """(0008,0060): SEG or SR."""
    series_number: int
    series_instance_uid: str
    sop_instance_uid: str
    series_description: str
    """Written by this node, so it contains nothing about the patient."""
    created: datetime
    referenced_series: tuple[str, ...]


def scan_document(result: ResultObject, session_id: str) -> bytes:
    """Return the XML of a scan. Its ID follows from the object, and XNAT replaces an existing scan of the same ID."""
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
    return _serialised(root)


def assessor_document(result: ResultObject, ids: XnatIds) -> bytes:
    """Return the XML of a SEG's ROI collection.

    Its ID depends only on session and SEG, so that a second run replaces it.
    """
    key = sha256(f"{ids.session_id} {result.sop_instance_uid}".encode()).hexdigest()[:12]
    attributes = {
        "ID": f"RoiCollection_glionode_{key}",
        "project": ids.project,
        "label": f"glionode_{ids.session_id}_{key}",
    }
    root = ElementTree.Element(f"{{{_ICR}}}RoiCollection", attributes)
    _add(root, XNAT, "date", result.created.strftime("%Y-%m-%d"))
    _add(root, XNAT, "time", result.created.strftime("%H:%M:%S"))
    _add(root, XNAT, "imageSession_ID", ids.session_id)
    _add(root, _ICR, "UID", result.sop_instance_uid)
    _add(root, _ICR, "collectionType", "SEG")
    _add(root, _ICR, "subjectID", ids.subject_id)
    references = ElementTree.SubElement(root, f"{{{_ICR}}}references")
    for uid in result.referenced_series:
        _add(references, _ICR, "seriesUID", uid)
    _add(root, _ICR, "name", result.series_description)
    return _serialised(root)


def _add(parent: ElementTree.Element, namespace: str, name: str, text: str) -> None:
    ElementTree.SubElement(parent, f"{{{namespace}}}{name}").text = text


def _serialised(root: ElementTree.Element) -> bytes:
    ElementTree.register_namespace("xnat", XNAT)
    ElementTree.register_namespace("icr", _ICR)
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True))
