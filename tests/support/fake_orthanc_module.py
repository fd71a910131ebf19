"""A fake of the Python module `orthanc`, for tests of the script without Orthanc.

The end-to-end test test_orthanc.py compares its names with those of the real module.
"""

import json
import re
from types import SimpleNamespace
from typing import Any


class OrthancException(Exception):
    pass


class RestOutput:
    """Records the response of a REST callback."""

    def __init__(self) -> None:
        self.status = 0
        self.body = ""
        self.headers: dict[str, str] = {}

    def AnswerBuffer(self, body: str, content_type: str) -> None:  # noqa: N802
        self.status, self.body, self.headers["Content-Type"] = 200, body, content_type

    def SendHttpStatus(self, status: int, body: str, size: int) -> None:  # noqa: N802
        assert size == len(body)
        self.status, self.body = status, body

    def SendMethodNotAllowed(self, allowed: str) -> None:  # noqa: N802
        self.status, self.headers["Allow"] = 405, allowed

    def SetHttpHeader(self, name: str, value: str) -> None:  # noqa: N802
        self.headers[name] = value


class FakeOrthanc:
    """Has studies, and records what a script registers and logs. Names in capitals are those of the real module."""

    ChangeType = SimpleNamespace(STABLE_STUDY=9, ORTHANC_STARTED=10, ORTHANC_STOPPED=11)
    MetricsType = SimpleNamespace(DEFAULT=0)
    OrthancException = OrthancException
    RestOutput = RestOutput

    def __init__(self, section: object = None) -> None:
        self.configuration = {} if section is None else {"GlioNode": section}
        self.studies: list[dict[str, Any]] = []
        self.failing = False
        """Whether its REST API fails."""
        self.requested: list[str] = []
        self.changed: Any = None
        self.routes: dict[str, Any] = {}
        self.explorer = ""
        self.metrics: dict[str, float] = {}
        self.warnings: list[str] = []
        self.errors: list[str] = []

    def GetConfiguration(self) -> str:  # noqa: N802
        return json.dumps(self.configuration)

    def RegisterOnChangeCallback(self, callback: Any) -> None:  # noqa: N802
        self.changed = callback

    def RegisterRestCallback(self, uri: str, callback: Any) -> None:  # noqa: N802
        self.routes[uri] = callback

    def ExtendOrthancExplorer(self, script: str) -> None:  # noqa: N802
        self.explorer += script

    def SetMetricsValue(self, name: str, value: float, _kind: int) -> None:  # noqa: N802
        self.metrics[name] = value

    def LogWarning(self, text: str) -> None:  # noqa: N802
        self.warnings.append(text)

    def LogError(self, text: str) -> None:  # noqa: N802
        self.errors.append(text)

    def RestApiGet(self, path: str) -> bytes:  # noqa: N802
        self.requested.append(path)
        if self.failing:
            raise OrthancException(20, "Cannot access the database")
        found = re.fullmatch(r"/studies\?expand&since=(\d+)&limit=(\d+)", path)
        assert found is not None, f"{path} is not served here"
        start, most = int(found[1]), int(found[2])
        return json.dumps(self.studies[start : start + most]).encode()

    def request(self, method: str, uri: str, **more: object) -> RestOutput:
        """Call the callback of a registered route as Orthanc does."""
        output = RestOutput()
        (callback,) = (each for pattern, each in self.routes.items() if re.fullmatch(pattern, uri))
        callback(output, uri, method=method, groups=(), headers={}, **more)
        return output
