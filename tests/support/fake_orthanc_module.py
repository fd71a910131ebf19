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


class FakeCurrentOrthanc(FakeOrthanc):
    """Has what Orthanc 1.13 has more. Its queue can be given to another one, as a database outlives a process."""

    QueueOrigin = SimpleNamespace(FRONT=0)
    ErrorCode = SimpleNamespace(UNKNOWN_RESOURCE=17)
    ResourceType = SimpleNamespace(STUDY=1)

    def __init__(self, section: object = None, queue: list[tuple[int, bytes]] | None = None) -> None:
        super().__init__(section)
        self.queue = queue if queue is not None else []
        """Numbers and values of the entries."""
        self.reserved: set[int] = set()
        self.has_queues = True
        self.audit: list[tuple[object, ...]] = []

    def RestApiGet(self, path: str) -> bytes:  # noqa: N802
        if path == "/system":
            return json.dumps({"Capabilities": {"HasReserveQueueValue": self.has_queues}}).encode()
        return super().RestApiGet(path)

    def EnqueueValue(self, _queue: str, value: bytes) -> None:  # noqa: N802
        if self.failing:
            raise OrthancException(20, "Cannot access the database")
        self.queue.append((max((number for number, _ in self.queue), default=0) + 1, value))

    def ReserveQueueValue(self, _queue: str, _origin: int, _s: int) -> tuple[bytes | None, int | None]:  # noqa: N802
        for number, value in self.queue:
            if number not in self.reserved:
                self.reserved.add(number)
                return value, number
        return None, None

    def AcknowledgeQueueValue(self, _queue: str, number: int) -> None:  # noqa: N802
        if number not in dict(self.queue):
            raise OrthancException(17, "Unknown resource")
        self.queue[:] = [each for each in self.queue if each[0] != number]

    def EmitAuditLog(self, *event: object) -> None:  # noqa: N802
        self.audit.append(event)
