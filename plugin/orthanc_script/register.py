"""Register the Orthanc script: it submits studies to the node and shows their outcome.

It runs in Orthanc's own Python, so it and what it imports use the standard library alone. A call of Orthanc's SDK holds
Python's global lock, and a callback holds a thread of Orthanc. So callbacks only queue a study, or send the node a
request with a short timeout; the rest happens in a thread (submission_queue.py). The module `orthanc` is an argument.
"""

import json
import re
from pathlib import Path
from typing import Any

from plugin.orthanc_script.audit import record_submission, user_of
from plugin.orthanc_script.node_client import (
    HttpNode,
    Node,
    NodeRefused,
    NodeSettings,
    NodeSettingsWrong,
    NodeUnavailable,
    StudyUnknown,
    parse_node_settings,
)
from plugin.orthanc_script.submission_queue import SubmissionQueue

SECTION = "GlioNode"
"""The section of Orthanc's configuration with the script's settings."""
_STUDY = re.compile(r"/glionode/studies/([0-9a-f]{8}(?:-[0-9a-f]{8}){4})")
_BUTTON = Path(__file__).with_name("explorer.js")
_JSON = "application/json"


def register(orthanc: Any, node: Node | None = None) -> SubmissionQueue | None:
    """Register all callbacks by the section "GlioNode" of Orthanc's configuration; return the queue of submissions.

    With `node`, requests go to it and not to the node that the section names. An error in the section is logged, no
    callback is registered, and None is returned.
    """
    try:
        settings = parse_node_settings(json.loads(orthanc.GetConfiguration()).get(SECTION, {}))
    except NodeSettingsWrong as exc:
        orthanc.LogError(f"glionode: the script is not active: section {SECTION} of the configuration: {exc}")
        return None
    where = settings.url if node is None else "the node that runs this script"
    node = node if node is not None else HttpNode(settings)
    submissions = SubmissionQueue(orthanc, node, settings)
    handlers = _Handlers(orthanc, node, submissions, settings)
    orthanc.RegisterOnChangeCallback(handlers.on_change)
    orthanc.RegisterRestCallback("/glionode/status", handlers.status)
    orthanc.RegisterRestCallback("/glionode/studies/(.*)", handlers.study)
    orthanc.ExtendOrthancExplorer(_BUTTON.read_text(encoding="utf-8"))
    orthanc.LogWarning(f"glionode: studies are submitted to {where}")
    return submissions


class _Handlers:
    """The callbacks. None of them raises: an exception in a callback may make Orthanc itself fail."""

    def __init__(self, orthanc: Any, node: Node, submissions: SubmissionQueue, settings: NodeSettings) -> None:
        self._orthanc = orthanc
        self._node = node
        self._submissions = submissions
        self._settings = settings

    def on_change(self, change: Any, _level: Any, resource: str) -> None:
        """Queue a study that is complete; start and stop with Orthanc."""
        kinds = self._orthanc.ChangeType
        try:
            if change == kinds.STABLE_STUDY:
                if self._settings.submit_stable:
                    self._submissions.add_stable(resource)
            elif change == kinds.ORTHANC_STARTED:
                self._submissions.start()
            elif change == kinds.ORTHANC_STOPPED:
                self._submissions.stop()
        except Exception as exc:  # noqa: BLE001
            self._orthanc.LogError(f"glionode: a change of Orthanc was not handled ({type(exc).__name__})")

    def status(self, output: Any, _uri: str, **request: Any) -> None:
        """GET /glionode/status: whether the node answers, its jobs by state, how many studies wait to be submitted."""
        try:
            if request.get("method") != "GET":
                output.SendMethodNotAllowed("GET")
                return
            found: dict[str, Any] = {"url": self._settings.url, "waiting": self._submissions.waiting}
            try:
                found |= {"node": "up", **self._node.status()}
            except NodeUnavailable as exc:
                found |= {"node": "away", "why": str(exc)}
            except (NodeRefused, StudyUnknown) as exc:
                found |= {"node": "refuses", "why": str(exc)}
            output.AnswerBuffer(json.dumps(found, indent=1), _JSON)
        except Exception as exc:  # noqa: BLE001
            self._failed(output, exc)

    def study(self, output: Any, uri: str, **request: Any) -> None:
        """/glionode/studies/{id}: GET its outcome; POST to have it segmented now, {"force": true} to repeat it."""
        try:
            found = _STUDY.fullmatch(uri)
            method = request.get("method")
            if found is None:
                _send(output, 404, "The path does not end in an identifier of a study in Orthanc.")
            elif method == "GET":
                output.AnswerBuffer(json.dumps(self._node.outcome(found[1]), indent=1), _JSON)
            elif method == "POST" and _is_of_another_site(request):
                _send(output, 403, "The request comes from a page of another site. Send it from Orthanc's own pages.")
            elif method == "POST":
                force = _has_force(request)
                answer = self._node.submit(found[1], urgent=True, force=force)
                record_submission(self._orthanc, found[1], user_of(request), {"automatic": False, "force": force})
                output.AnswerBuffer(json.dumps(answer, indent=1), _JSON)
            else:
                output.SendMethodNotAllowed("GET,POST")
        except StudyUnknown as exc:
            _send(output, 404, str(exc))
        except NodeRefused as exc:
            _send(output, 502, str(exc))
        except NodeUnavailable as exc:
            _send(output, 503, str(exc))
        except Exception as exc:  # noqa: BLE001
            self._failed(output, exc)

    def _failed(self, output: Any, exc: Exception) -> None:
        self._orthanc.LogError(f"glionode: a request failed ({type(exc).__name__})")
        _send(output, 500, "The request failed inside glionode's script; see Orthanc's log.")


def _send(output: Any, status: int, text: str) -> None:
    body = json.dumps({"error": text})
    output.SetHttpHeader("Content-Type", _JSON)
    output.SendHttpStatus(status, body, len(body))


def _is_of_another_site(request: dict[str, Any]) -> bool:
    """Return whether a browser says that a page of another site sent a request; Orthanc itself does not look.

    A browser that sends Sec-Fetch-Site knows better than Host tells, which a proxy before Orthanc may have changed.
    """
    headers = {name.lower(): value for name, value in request.get("headers", {}).items()}
    if "sec-fetch-site" in headers:
        return headers["sec-fetch-site"] not in ("same-origin", "none")
    return "origin" in headers and headers["origin"].partition("://")[2] != headers.get("host")


def _has_force(request: dict[str, Any]) -> bool:
    """Return whether a request has ?force, or {"force": true} as its body: Orthanc 1.10 passes no query with a POST."""
    query = request.get("get", {}).get("force")
    if query is not None:
        return str(query).lower() not in ("0", "false")
    try:
        body = json.loads(request.get("body") or b"{}")
    except ValueError:
        return False
    return isinstance(body, dict) and body.get("force") is True
