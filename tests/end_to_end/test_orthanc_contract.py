"""One script, in a real Orthanc and in the embedded node: the module that it imports, and all that it is answered."""

import json
import re
import time
from collections.abc import Callable
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
from tests.support.paths import END_TO_END
from tests.support.plugin_hosts import PYTHON_PLUGIN
from tests.support.walks import run_walk

PLACES = ("FileUuid", "DicomPort", "HttpPort")
"""Fields that differ between any two hosts."""
MOMENTS = ("Date", "LastUpdate", "ReceptionDate", "GetInstanceMetadata")
"""Fields that say when something was, in UTC."""
BYTES_MADE = ("GetInstanceData", "SerializeDicomInstance", "GetInstanceSize")
"""Of a file that CreateDicom made: it names who made it."""
UNORDERED = ("POST /tools/find", "/instances", "STORED")
"""What Orthanc gives in the order of its index."""


@dataclass(frozen=True)
class Host:
    """What came of the walk in one host."""

    answers: dict[str, Any]
    changes: list[list[Any]]
    stored: list[list[Any]]
    http: dict[str, Any]
    log: str


def installed(program: Callable[[str], str]) -> list[str]:
    """Orthanc, its Python plugin, storescp; skips where one is missing."""
    if not Path(PYTHON_PLUGIN).exists():
        program("libOrthancPython.so")
    return [program("Orthanc"), PYTHON_PLUGIN, program("storescp")]


def walk(name: str, *arguments: str) -> None:
    """A walk in a process of its own, as it takes a network of its own."""
    result = run_walk(name, *arguments, timeout_s=250)
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def walked(program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float, float]:
    """What the walk left, and when it was."""
    work = tmp_path_factory.mktemp("contract")
    begun = time.time()
    walk("walk_with_orthanc_contract", str(work), str(END_TO_END / "orthanc_calls.py"), *installed(program))
    return work, int(begun), time.time()


@pytest.fixture(scope="module")
def hosts(walked: tuple[Path, float, float]) -> tuple[Host, Host]:
    """The real one and the node."""
    work, *moments = walked
    logs = (work / "real" / "orthanc.log", work / "own" / "node.log")
    real, own = (_read(log.parent, log, (moments[0], moments[1])) for log in logs)
    return real, own


@pytest.fixture
def routes(walked: tuple[Path, float, float]) -> set[tuple[str, str]]:
    """Methods and paths of Orthanc's REST API, by Orthanc's own table."""
    described = json.loads((walked[0] / "openapi.json").read_text())["paths"]
    others = re.findall(r"URI without API documentation: ([A-Z]+) (\S+)", (walked[0] / "routes.log").read_text())
    methods = {"get", "post", "put", "delete"}
    return {(method.upper(), path) for path, known in described.items() for method in methods & set(known)} | set(
        others
    )


def _read(folder: Path, log: Path, walked: tuple[float, float]) -> Host:
    text = (folder / "answers.json").read_text()
    found = json.loads(text)
    assert found["answers"].get("failed") is None
    for word, place in _made(found["answers"]).items():
        text = text.replace(word, place)
    found = _timed(json.loads(text), walked)
    http = json.loads((folder / "http.json").read_text())
    return Host(found["answers"], found["changes"], found["stored"], http, log.read_text())


def _timed(answer: Any, walked: tuple[float, float]) -> Any:
    """An answer that says of moments whether they were during the walk; of others it has the text."""
    if isinstance(answer, list):
        return [_timed(each, walked) for each in answer]
    if not isinstance(answer, dict):
        return answer
    found = {key: _timed(value, walked) for key, value in answer.items()}
    for key in found.keys() & set(MOMENTS):
        try:
            at = datetime.strptime(found[key], "%Y%m%dT%H%M%S").replace(tzinfo=UTC).timestamp()
        except (TypeError, ValueError):
            continue
        found[key] = "during the walk" if walked[0] <= at <= walked[1] else found[key]
    return found


def _made(answers: dict[str, Any]) -> dict[str, str]:
    """Identifiers of what the script made: each host makes up UIDs of its own."""
    kept, tags = answers["store made"], answers["CreateDicom"]["GetInstanceSimplifiedJson"]
    uids = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    return {kept[key]: f"MADE-{key}" for key in ("ID", "ParentSeries", "ParentStudy")} | {
        tags[key]: f"MADE-{key}" for key in uids
    }


def comparable(place: str, answer: Any) -> Any:
    """An answer without what has to differ."""
    if isinstance(answer, dict):
        left_out = BYTES_MADE if place == "CreateDicom" else ()
        return {key: "*" if key in (*PLACES, *left_out) else comparable(place, value) for key, value in answer.items()}
    if isinstance(answer, list):
        items = [comparable(place, each) for each in answer]
        return sorted(items, key=json.dumps) if any(each in place for each in UNORDERED) else items
    return answer


def assert_same(real: dict[str, Any], own: dict[str, Any], but: tuple[str, ...] = ()) -> None:
    """All answers but those that are named are the same; otherwise all that are not are shown."""
    different = {
        place: {"real": real.get(place), "own": own.get(place)}
        for place in real.keys() | own.keys()
        if place not in but and comparable(place, real.get(place)) != comparable(place, own.get(place))
    }
    assert different == {}


def test_the_module_has_all_names_and_values(hosts: tuple[Host, Host]) -> None:
    real, own = (host.answers["names"] for host in hosts)
    assert len(real) > 90
    assert_same(real, own, but=UNSUPPORTED_CLASSES)
    assert real.keys() == own.keys()


def test_all_calls_are_answered_alike(hosts: tuple[Host, Host]) -> None:
    real, own = hosts
    assert len(real.answers) > 250
    assert json.dumps(real.answers).count("during the walk") > 50
    assert_same(real.answers, own.answers, but=("GET /modalities/peer", "names"))
    # Of what can be asked of a modality there is a part.
    assert set(own.answers["GET /modalities/peer"]) < set(real.answers["GET /modalities/peer"])


def test_each_route_of_orthancs_is_answered_or_said_to_be_missing(routes: set[tuple[str, str]]) -> None:
    def example(path: str) -> str:
        return re.sub(r"\{\w+\}", lambda match: "dicom" if match[0] == "{name}" else "x", path)

    def answered(method: str, path: str) -> bool:
        return any(each.method == method and each.pattern.fullmatch(path) for each in ROUTES)

    assert len(routes) > 250
    missing = UnsupportedRoutes()
    silent = [
        (method, path)
        for method, path in routes
        if not answered(method, example(path))
        and missing.error_for(method, example(path)).args[0] != ErrorCode.NOT_IMPLEMENTED
    ]
    assert sorted(silent) == []
    # Nor is anything said to be missing that Orthanc has not.
    written = [
        (method, "/" + "/".join(steps))
        for methods, path in UNSUPPORTED_ROUTES
        for steps in product(*(step.strip("()").split("|") for step in path.split("/")))
        for method in methods.split()
    ]
    assert sorted(set(written) - routes) == []


def test_changes_are_told_alike(hosts: tuple[Host, Host]) -> None:
    jobs, unordered = (16, 17, 18), (1, 15)  # Orthanc's own jobs; what is deleted together, and what is no resource's
    real, own = ([each for each in host.changes if each[0] not in jobs] for host in hosts)
    assert [each for each in real if each[0] not in unordered] == [each for each in own if each[0] not in unordered]
    assert sorted(real) == sorted(own)


def test_stored_instances_are_shown_alike(hosts: tuple[Host, Host]) -> None:
    real, own = (dict(host.stored) for host in hosts)  # Orthanc shows one that is sent again once more
    made = "MADE-ID"
    assert len(real) == 6
    assert real.pop(made).keys() == own.pop(made).keys()
    assert_same(real, own)


def test_requests_are_answered_alike(hosts: tuple[Host, Host]) -> None:
    real, own = (host.http for host in hosts)
    assert real["GET /trial/hello"] == {"status": 200, "headers": {"content-type": "text/plain"}, "body": "hello"}
    for answer in own.values():
        if isinstance(answer["body"], dict) and "HttpError" in answer["body"]:  # these have no type in Orthanc
            assert answer["headers"].pop("content-type") == "application/json"
    assert_same(real, own)


def test_a_failing_callback_is_logged_by_kind_and_place(hosts: tuple[Host, Host]) -> None:
    log = hosts[1].log
    for kind, error in (("on-stored-instance", "ValueError"), ("on-change", "KeyError"), ("REST", "RuntimeError")):
        assert f"the hosted plugin's {kind} callback raised {error} at {END_TO_END / 'orthanc_calls.py'}, line" in log
    assert "a callback that fails" not in log
    assert "Traceback" not in log
    assert "Trial^" not in log  # patients' names
