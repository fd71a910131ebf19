"""The plugin inside Orthanc: names studies to the node, shows what came of them. Computes nothing.

It runs in Orthanc's own Python, so it and what it imports take the standard library alone. A call of Orthanc's SDK
holds Python's lock, and a callback holds a thread of Orthanc's: callbacks here only note something, or ask the node
with a short time limit; the rest is a thread's (orthanc_submissions.py). The module `orthanc` is an argument.
"""

import json
import re
from pathlib import Path
from typing import Any

from plugin.orthanc_script.node_client import (
    HttpNode,
    Node,
    NodeAway,
    NodeRefused,
    NodeSettings,
    NodeSettingsWrong,
    StudyUnknown,
    node_settings,
)
from plugin.orthanc_script.submissions import Submissions

SECTION = "GlioNode"
"""Of Orthanc's configuration."""
_STUDY = re.compile(r"/glionode/studies/([0-9a-f]{8}(?:-[0-9a-f]{8}){4})")
_BUTTON = Path(__file__).with_name("explorer.js")
_JSON = "application/json"


def register(orthanc: Any, node: Node | None = None) -> Submissions | None:
    """Register all callbacks, with the section "GlioNode" of Orthanc's configuration; gives what submits studies.

    `node` takes the place of the one that the section names. A section that is wrong is logged and leaves Orthanc as it
    would be without this: then None is given.
    """
    try:
        settings = node_settings(json.loads(orthanc.GetConfiguration()).get(SECTION, {}))
    except NodeSettingsWrong as exc:
        orthanc.LogError(f"glionode is not loaded: {exc}")
        return None
    where = settings.url if node is None else "the node that this runs in"
    node = node if node is not None else HttpNode(settings)
    submissions = Submissions(orthanc, node, settings)
    handlers = _Handlers(orthanc, node, submissions, settings)
    orthanc.RegisterOnChangeCallback(handlers.on_change)
    orthanc.RegisterRestCallback("/glionode/status", handlers.status)
    orthanc.RegisterRestCallback("/glionode/studies/(.*)", handlers.study)
    orthanc.ExtendOrthancExplorer(_BUTTON.read_text(encoding="utf-8"))
    orthanc.LogWarning(f"glionode: studies are named to {where}")
    return submissions


class _Handlers:
    """The callbacks. None of them raises, for what is raised in them may come to be Orthanc's own failure."""

    def __init__(self, orthanc: Any, node: Node, submissions: Submissions, settings: NodeSettings) -> None:
        self._orthanc = orthanc
        self._node = node
        self._submissions = submissions
        self._settings = settings

    def on_change(self, change: Any, _level: Any, resource: str) -> None:
        """A study is complete, or Orthanc begins or ends."""
        kinds = self._orthanc.ChangeType
        try:
            if change == kinds.STABLE_STUDY:
                if self._settings.submit_stable:
                    self._submissions.add(resource)
            elif change == kinds.ORTHANC_STARTED:
                self._submissions.start()
            elif change == kinds.ORTHANC_STOPPED:
                self._submissions.stop()
        except Exception as exc:  # noqa: BLE001
            self._orthanc.LogError(f"glionode: a change was not taken ({type(exc).__name__})")

    def status(self, output: Any, _uri: str, **request: Any) -> None:
        """GET /glionode/status: whether the node answers, its jobs by state, how many studies wait to be named."""
        try:
            if request.get("method") != "GET":
                output.SendMethodNotAllowed("GET")
                return
            found: dict[str, Any] = {"url": self._settings.url, "waiting": self._submissions.waiting}
            try:
                found |= {"node": "up", **self._node.status()}
            except NodeAway as exc:
                found |= {"node": "away", "why": str(exc)}
            except (NodeRefused, StudyUnknown) as exc:
                found |= {"node": "refuses", "why": str(exc)}
            output.AnswerBuffer(json.dumps(found, indent=1), _JSON)
        except Exception as exc:  # noqa: BLE001
            self._failed(output, exc)

    def study(self, output: Any, uri: str, **request: Any) -> None:
        """/glionode/studies/{id}: GET what came of it; POST to have it segmented now, {"force": true} once more."""
        try:
            found = _STUDY.fullmatch(uri)
            method = request.get("method")
            if found is None:
                _send(output, 404, "That is no identifier of a study in Orthanc.")
            elif method == "GET":
                output.AnswerBuffer(json.dumps(self._node.look(found[1]), indent=1), _JSON)
            elif method == "POST":
                answer = self._node.submit(found[1], urgent=True, force=_forced(request))
                output.AnswerBuffer(json.dumps(answer, indent=1), _JSON)
            else:
                output.SendMethodNotAllowed("GET,POST")
        except StudyUnknown as exc:
            _send(output, 404, str(exc))
        except NodeRefused as exc:
            _send(output, 502, str(exc))
        except NodeAway as exc:
            _send(output, 503, str(exc))
        except Exception as exc:  # noqa: BLE001
            self._failed(output, exc)

    def _failed(self, output: Any, exc: Exception) -> None:
        self._orthanc.LogError(f"glionode: a request failed ({type(exc).__name__})")
        _send(output, 500, "This failed within the plugin of glionode; Orthanc's log names the kind of the failure.")


def _send(output: Any, status: int, text: str) -> None:
    body = json.dumps({"error": text})
    output.SetHttpHeader("Content-Type", _JSON)
    output.SendHttpStatus(status, body, len(body))


def _forced(request: dict[str, Any]) -> bool:
    """?force, or {"force": true} in the body: Orthanc 1.10 passes no query with a POST."""
    query = request.get("get", {}).get("force")
    if query is not None:
        return str(query).lower() not in ("0", "false")
    try:
        body = json.loads(request.get("body") or b"{}")
    except ValueError:
        return False
    return isinstance(body, dict) and body.get("force") is True
