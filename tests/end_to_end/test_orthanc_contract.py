"""Test that a script gets the same module and the same answers in the node as in a real Orthanc.

The node gives what Orthanc 1.10 gives. A current Orthanc gives more; there, all that the node gives must be in what the
real one gives, but for what Orthanc itself changed since.
"""

import json
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from plugin.orthanc_api.errors import ErrorCode
from plugin.orthanc_api.module import UNSUPPORTED_CLASSES
from plugin.orthanc_api.plugin_host import ROUTES
from plugin.orthanc_api.unsupported_routes import UNSUPPORTED_ROUTES, UnsupportedRoutes
from tests.support.installed import OrthancInstallation
from tests.support.paths import END_TO_END
from tests.support.walks import run_walk

HOST_FIELDS = ("FileUuid", "DicomPort", "HttpPort")
"""Fields that differ between any two hosts."""
TIMES = ("Date", "LastUpdate", "ReceptionDate", "GetInstanceMetadata")
"""Fields with a time, in UTC."""
CREATED_BYTES = ("GetInstanceData", "SerializeDicomInstance", "GetInstanceSize")
"""Of a file that CreateDicom made, which names its maker."""
UNORDERED = ("POST /tools/find", "/instances", "STORED")
"""Answers in the order of Orthanc's index."""
CHANGED_SINCE_1_10 = re.compile(
    r"GET /modalities/peer|GET /system|GET /tools/find|GET /[a-z]+\?since=.*"  # pages are in another order
    r"|CreateDicom of (an unknown tag|nonsense)|(PUT|DELETE) .*/metadata/(7|LastUpdate).*"
    r"|RestApiGetAfterPlugins\('/trial/.*"
)
"""Calls whose results Orthanc itself changed between 1.10 and 1.13."""
RESPONSES_CHANGED_SINCE_1_10 = ("GET /trial/redirect", "GET /trial/echo/a?x=a%20b+c%2Bd&y=%C3%BC", "PUT /trial/echo/")
"""Status 307 in place of 301; arguments in the query are decoded; a content type where there was none."""
REMOVED_SINCE_1_10 = {"CreateMemoryBuffer"}


@dataclass(frozen=True)
class Host:
    """What the walk observed in one host."""

    answers: dict[str, Any]
    changes: list[list[Any]]
    stored: list[list[Any]]
    http: dict[str, Any]
    log: str
    current: bool
    """Whether it is, or was compared with, a current Orthanc in place of 1.10."""


@pytest.fixture(scope="module")
def walked(
    program: Callable[[str], str], orthanc: OrthancInstallation, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, float, float]:
    """The folder that the walk wrote to, and its start and end."""
    work = tmp_path_factory.mktemp("contract")
    programs = [orthanc.program, orthanc.python_plugin, program("storescp")]
    started = time.time()
    result = run_walk("walk_with_orthanc_contract", work, END_TO_END / "orthanc_calls.py", *programs, timeout_s=250)
    assert result.returncode == 0, result.stderr
    return work, int(started), time.time()


@pytest.fixture(scope="module")
def hosts(walked: tuple[Path, float, float], orthanc: OrthancInstallation) -> tuple[Host, Host]:
    """What was observed in the real Orthanc and in the node."""
    work, started, ended = walked
    logs = (work / "real" / "orthanc.log", work / "own" / "node.log")
    real, own = (_read(log.parent, log, (started, ended), orthanc.current) for log in logs)
    return real, own


@pytest.fixture
def routes(walked: tuple[Path, float, float]) -> set[tuple[str, str]]:
    """Methods and paths of Orthanc's REST API, as Orthanc lists them."""
    described = json.loads((walked[0] / "openapi.json").read_text())["paths"]
    others = re.findall(r"URI without API documentation: ([A-Z]+) (\S+)", (walked[0] / "routes.log").read_text())
    methods = {"get", "post", "put", "delete"}
    return {(method.upper(), path) for path, known in described.items() for method in methods & set(known)} | set(
        others
    )


def _read(folder: Path, log: Path, period: tuple[float, float], current: bool) -> Host:
    """Read what the walk wrote for a host, with UIDs and times that differ between hosts replaced."""
    text = (folder / "answers.json").read_text()
    found = json.loads(text)
    assert found["answers"].get("failed") is None
    for uid, name in _created_uids(found["answers"]).items():
        text = text.replace(uid, name)
    found = _without_times(json.loads(text), period)
    http = json.loads((folder / "http.json").read_text())
    return Host(found["answers"], found["changes"], found["stored"], http, log.read_text(), current)


def _without_times(answer: Any, period: tuple[float, float]) -> Any:
    """Return an answer in which times during the walk are replaced by "during the walk"."""
    if isinstance(answer, list):
        return [_without_times(each, period) for each in answer]
    if not isinstance(answer, dict):
        return answer
    found = {key: _without_times(value, period) for key, value in answer.items()}
    for key in found.keys() & set(TIMES):
        try:
            at = datetime.strptime(found[key], "%Y%m%dT%H%M%S").replace(tzinfo=UTC).timestamp()
        except (TypeError, ValueError):
            continue
        found[key] = "during the walk" if period[0] <= at <= period[1] else found[key]
    return found


def _created_uids(answers: dict[str, Any]) -> dict[str, str]:
    """Return names for the identifiers of what the script created, as each host generates its own."""
    stored, tags = answers["store made"], answers["CreateDicom"]["GetInstanceSimplifiedJson"]
    uids = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    return {stored[key]: f"MADE-{key}" for key in ("ID", "ParentSeries", "ParentStudy")} | {
        tags[key]: f"MADE-{key}" for key in uids
    }


def comparable(place: str, answer: Any) -> Any:
    """Return the answer to a call without what differs between hosts."""
    if isinstance(answer, dict):
        left_out = CREATED_BYTES if place == "CreateDicom" else ()
        return {
            key: "*" if key in (*HOST_FIELDS, *left_out) else comparable(place, value) for key, value in answer.items()
        }
    if isinstance(answer, list):
        items = [comparable(place, each) for each in answer]
        return sorted(items, key=json.dumps) if any(each in place for each in UNORDERED) else items
    return answer


def assert_same(real: dict[str, Any], own: dict[str, Any], but: tuple[str, ...] = ()) -> None:
    """Assert that all answers but those of `but` are the same; the failure shows every difference."""
    different = {
        place: {"real": real.get(place), "own": own.get(place)}
        for place in real.keys() | own.keys()
        if place not in but and comparable(place, real.get(place)) != comparable(place, own.get(place))
    }
    assert different == {}


def assert_contained(real: dict[str, Any], own: dict[str, Any], but: Iterable[str] = ()) -> None:
    """Assert that all of the node's answers but those of `but` are in those of a current Orthanc."""
    different = {
        place: {"real": real.get(place), "own": answer}
        for place, answer in own.items()
        if place not in but and not contains(comparable(place, real.get(place)), comparable(place, answer))
    }
    assert different == {}


def contains(more: Any, less: Any) -> bool:
    """Return whether an answer has all keys and, in any order, all items of another one, with the same values."""
    if isinstance(more, dict) and isinstance(less, dict):
        return all(key in more and contains(more[key], value) for key, value in less.items())
    if isinstance(more, list) and isinstance(less, list):
        return all(any(contains(each, item) for each in more) for item in less)
    return bool(more == less)


def test_the_module_has_the_same_names_and_values(hosts: tuple[Host, Host]) -> None:
    real, own = (host.answers["names"] for host in hosts)
    assert len(real) > 90
    if hosts[0].current:
        assert_contained(real, own, but=REMOVED_SINCE_1_10)
        return
    assert_same(real, own, but=UNSUPPORTED_CLASSES)
    assert real.keys() == own.keys()


def test_calls_have_the_same_results(hosts: tuple[Host, Host]) -> None:
    real, own = hosts
    assert len(real.answers) > 250
    if real.current:
        changed = {place for place in own.answers if CHANGED_SINCE_1_10.fullmatch(place)}
        assert len(changed) < 30
        assert_contained(real.answers, own.answers, but=changed | {"names"})
        return
    assert json.dumps(real.answers).count("during the walk") > 50
    assert_same(real.answers, own.answers, but=("GET /modalities/peer", "names"))
    # The node provides only a part of a modality's routes.
    assert set(own.answers["GET /modalities/peer"]) < set(real.answers["GET /modalities/peer"])


def test_every_route_of_orthanc_is_served_or_reported_as_unsupported(
    routes: set[tuple[str, str]], orthanc: OrthancInstallation
) -> None:
    def example(path: str) -> str:
        return re.sub(r"\{\w+\}", lambda match: "dicom" if match[0] == "{name}" else "x", path)

    def answered(method: str, path: str) -> bool:
        return any(each.method == method and each.pattern.fullmatch(path) for each in ROUTES)

    assert len(routes) > 250
    # Every route that is served is one of Orthanc's.
    served = [
        each for each in ROUTES if not any(each.method == m and each.pattern.fullmatch(example(p)) for m, p in routes)
    ]
    assert served == []
    if orthanc.current:
        return  # the list of unsupported routes is that of Orthanc 1.10
    missing = UnsupportedRoutes()
    unreported = [
        (method, path)
        for method, path in routes
        if not answered(method, example(path))
        and missing.error_for(method, example(path)).args[0] != ErrorCode.NOT_IMPLEMENTED
    ]
    assert sorted(unreported) == []
    # No route is listed as unsupported that Orthanc does not have.
    listed = [
        (method, "/" + "/".join(steps))
        for methods, path in UNSUPPORTED_ROUTES
        for steps in product(*(step.strip("()").split("|") for step in path.split("/")))
        for method in methods.split()
    ]
    assert sorted(set(listed) - routes) == []


def test_change_callbacks_get_the_same_changes(hosts: tuple[Host, Host]) -> None:
    jobs, unordered = (16, 17, 18), (1, 15)  # Orthanc's own jobs; deletions of one request, and changes of no resource
    real, own = ([each for each in host.changes if each[0] not in jobs] for host in hosts)
    assert [each for each in real if each[0] not in unordered] == [each for each in own if each[0] not in unordered]
    assert sorted(real) == sorted(own)


def test_stored_instance_callbacks_get_the_same_instances(hosts: tuple[Host, Host]) -> None:
    real, own = (dict(host.stored) for host in hosts)  # Orthanc calls back again for an instance that is sent again
    made = "MADE-ID"
    assert len(real) == 6
    assert real.pop(made).keys() == own.pop(made).keys()
    assert_same(real, own)


def test_requests_get_the_same_responses(hosts: tuple[Host, Host]) -> None:
    real, own = (host.http for host in hosts)
    assert real["GET /trial/hello"] == {"status": 200, "headers": {"content-type": "text/plain"}, "body": "hello"}
    for answer in own.values():
        if isinstance(answer["body"], dict) and "HttpError" in answer["body"]:  # Orthanc sends these without a type
            assert answer["headers"].pop("content-type") == "application/json"
    if hosts[0].current:
        assert_contained(real, own, but=RESPONSES_CHANGED_SINCE_1_10)
    else:
        assert_same(real, own)


def test_the_log_names_kind_and_place_of_a_failing_callback(hosts: tuple[Host, Host]) -> None:
    log = hosts[1].log
    for kind, error in (("on-stored-instance", "ValueError"), ("on-change", "KeyError"), ("REST", "RuntimeError")):
        assert f"the hosted plugin's {kind} callback raised {error} at {END_TO_END / 'orthanc_calls.py'}, line" in log
    assert "a callback that fails" not in log
    assert "Traceback" not in log
    assert "Trial^" not in log  # patients' names
