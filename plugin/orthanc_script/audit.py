"""Record submissions in Orthanc's audit log, which Orthanc 1.12.9 and its Python plugin 6 have.

Orthanc hands the entries to whichever of its plugins keeps them; without one they are gone. Imports the standard
library alone.
"""

import base64
import json
from typing import Any


def record_submission(orthanc: Any, study: str, user: str, detail: dict[str, object]) -> None:
    """Record that a study was submitted to the node; without effect in an Orthanc that has no audit log."""
    if not hasattr(orthanc, "EmitAuditLog"):
        return
    kind = orthanc.ResourceType.STUDY
    try:
        orthanc.EmitAuditLog("glionode", user, kind, study, "submit", json.dumps(detail).encode())
    except orthanc.OrthancException as exc:
        orthanc.LogWarning(f"glionode: an entry of the audit log was not written ({type(exc).__name__})")


def user_of(request: dict[str, Any]) -> str:
    """Return the user of a REST request, by HTTP's basic authentication; empty where it does not tell."""
    scheme, _, credentials = str(request.get("headers", {}).get("authorization", "")).partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(credentials, validate=True).decode("utf-8").partition(":")[0]
    except ValueError:
        return ""
