"""The routes of Orthanc 1.10's REST API that the node does not support; they raise NOT_IMPLEMENTED.

A test compares these and the supported routes with the table that Orthanc itself prints.
"""

import logging
import re
import threading

from plugin.orthanc_api.errors import ErrorCode, OrthancException, failure

_LOG = logging.getLogger(__name__)

_ALL = "(patients|studies|series|instances)/{id}"
_ABOVE_IMAGES = "(patients|studies|series)/{id}"
UNSUPPORTED_ROUTES: tuple[tuple[str, str], ...] = (
    ("GET PUT DELETE", f"{_ALL}/attachments/{{name}}"),
    ("GET", f"{_ALL}/attachments/{{name}}/(compressed-data|compressed-md5|compressed-size|data|md5|size)"),
    ("GET", f"{_ALL}/attachments/{{name}}/(info|is-compressed)"),
    ("POST", f"{_ALL}/attachments/{{name}}/(compress|uncompress|verify-md5)"),
    ("GET", f"{_ABOVE_IMAGES}/attachments"),
    ("GET", f"{_ALL}/module"),
    ("POST", f"{_ALL}/(anonymize|modify|reconstruct)"),
    ("GET POST", f"{_ABOVE_IMAGES}/(archive|media)"),
    ("GET PUT", "patients/{id}/protected"),
    ("GET", "studies/{id}/module-patient"),
    ("POST", "studies/{id}/(merge|split)"),
    ("GET", "series/{id}/(numpy|ordered-slices)"),
    ("POST", "instances/{id}/export"),
    ("GET", "instances/{id}/(image-int16|image-uint16|image-uint8|matlab|numpy|pdf|preview|rendered)"),
    ("GET", "instances/{id}/frames/{frame}"),
    (
        "GET",
        "instances/{id}/frames/{frame}/(image-int16|image-uint16|image-uint8|matlab|numpy|preview|raw|raw.gz|rendered)",
    ),
    ("GET DELETE", "exports"),
    ("GET", "jobs"),
    ("GET", "jobs/{id}"),
    ("GET", "jobs/{id}/{key}"),
    ("POST", "jobs/{id}/(cancel|pause|resubmit|resume)"),
    ("POST", "modalities/{id}/(find|find-instance|find-patient|find-series|find-study|find-worklist|move|query)"),
    ("POST", "modalities/{id}/(storage-commitment|store-straight)"),
    ("GET", "peers"),
    ("GET PUT DELETE", "peers/{id}"),
    ("GET", "peers/{id}/(configuration|system)"),
    ("POST", "peers/{id}/(store|store-straight)"),
    ("GET", "plugins"),
    ("GET", "plugins/{id}"),
    ("GET", "plugins/explorer.js"),
    ("GET", "queries"),
    ("GET DELETE", "queries/{id}"),
    ("GET", "queries/{id}/(answers|level|modality|query)"),
    ("POST", "queries/{id}/retrieve"),
    ("GET", "queries/{id}/answers/{index}"),
    ("GET", "queries/{id}/answers/{index}/content"),
    ("POST", "queries/{id}/answers/{index}/(query-instances|query-series|query-studies|retrieve)"),
    ("GET", "storage-commitment/{id}"),
    ("POST", "storage-commitment/{id}/remove"),
    ("GET", "tools"),
    ("GET", "tools/(dicom-conformance|now|now-local)"),
    ("GET PUT", "tools/(accepted-transfer-syntaxes|default-encoding|metrics|unknown-sop-class-accepted)"),
    ("GET PUT", "tools/(log-level|log-level-dicom|log-level-generic|log-level-http|log-level-jobs|log-level-lua)"),
    ("GET PUT", "tools/(log-level-plugins|log-level-sqlite)"),
    ("POST", "tools/(bulk-anonymize|bulk-content|bulk-delete|bulk-modify)"),
    ("POST", "tools/(create-archive|create-dicom|create-media|create-media-extended)"),
    ("POST", "tools/(dicom-echo|execute-script|invalidate-tags|reconstruct|reset|shutdown)"),
)
"""Methods and paths of unsupported routes."""


class UnsupportedRoutes:
    """Distinguishes the paths of Orthanc's API from unknown ones. Thread-safe."""

    def __init__(self) -> None:
        self._patterns = tuple(
            (frozenset(methods.split()), re.compile("/" + re.sub(r"\{\w+\}", "[^/]+", path.replace(".", "[.]"))), path)
            for methods, path in UNSUPPORTED_ROUTES
        )
        self._logged: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def error_for(self, method: str, path: str) -> OrthancException:
        """Return the error for a path without a route, and log each unsupported route once."""
        for methods, pattern, template in self._patterns:
            if method in methods and pattern.fullmatch(path):
                self._log_once(method, _mask_identifiers(path, template))
                return failure(ErrorCode.NOT_IMPLEMENTED)
        return failure(ErrorCode.UNKNOWN_RESOURCE)

    def _log_once(self, method: str, path: str) -> None:
        with self._lock:
            known = (method, path) in self._logged
            self._logged.add((method, path))
        if not known:
            _LOG.error("the hosted plugin requests %s %s, which the node does not support", method, path)


def _mask_identifiers(path: str, template: str) -> str:
    steps = zip(path.split("/")[1:], template.split("/"), strict=True)
    return "/" + "/".join(expected if expected.startswith("{") else given for given, expected in steps)
