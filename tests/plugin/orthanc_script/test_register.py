"""The script inside Orthanc: which studies it submits, and that neither a bad node nor a bad request harms Orthanc."""

import base64
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from plugin.orthanc_script.node_client import (
    HttpNode,
    NodeRefused,
    NodeSettings,
    NodeSettingsWrong,
    NodeUnavailable,
    StudyUnknown,
    parse_node_settings,
)
from plugin.orthanc_script.register import register
from plugin.orthanc_script.submission_queue import SubmissionQueue
from tests.support.fake_orthanc_module import FakeCurrentOrthanc, FakeOrthanc, RestOutput
from tests.support.node import wait_until
from tests.support.paths import ROOT

DAY = timedelta(days=1)


def name(number: int) -> str:
    """Return an identifier like those of Orthanc."""
    return "-".join([f"{number:08x}"] * 5)


def study(number: int, age: timedelta = timedelta(), stable: bool = True) -> dict[str, Any]:
    """Return a study as Orthanc describes it."""
    update = (datetime.now(UTC) - age).strftime("%Y%m%dT%H%M%S")
    return {"ID": name(number), "LastUpdate": update, "IsStable": stable}


class FakeNode:
    """Accepts what is submitted, or raises `failure`."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.database = "its first one"
        self.submitted: list[tuple[str, bool, bool]] = []

    def submit(self, study: str, urgent: bool = False, force: bool = False) -> dict[str, Any]:
        if self.failure is not None:
            raise self.failure
        self.submitted.append((study, urgent, force))
        return {"state": "queued"}

    def outcome(self, study: str) -> dict[str, Any]:
        if self.failure is not None:
            raise self.failure
        return {"state": "segmented", "study": study}

    def status(self) -> dict[str, Any]:
        if self.failure is not None:
            raise self.failure
        jobs = {"segmented": 3, "not_eligible": 1, "of no metric's name": 1}
        return {"jobs": jobs, "database": self.database}

    def abort(self) -> None:
        pass


@pytest.fixture
def orthanc() -> FakeOrthanc:
    return FakeOrthanc()


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()


def make_queue(orthanc: FakeOrthanc, node: FakeNode, **settings: Any) -> SubmissionQueue:
    return SubmissionQueue(orthanc, node, NodeSettings(**settings))


def submitted_to(node: FakeNode) -> list[str]:
    return [study for study, _, _ in node.submitted]


def test_the_script_imports_the_standard_library_alone() -> None:
    code = (
        "import sys; before = set(sys.modules); sys.path.insert(0, sys.argv[1]); import plugin.orthanc_script.register;"
        "print(sorted({n.partition('.')[0] for n in set(sys.modules) - before} - sys.stdlib_module_names))"
    )
    alone = [sys.executable, "-I", "-S", "-c", code, str(ROOT)]
    assert subprocess.run(alone, capture_output=True, text=True, check=True).stdout.strip() == "['plugin']"


def test_a_stable_study_is_submitted(orthanc: FakeOrthanc, node: FakeNode) -> None:
    register(orthanc, node)
    orthanc.changed(orthanc.ChangeType.ORTHANC_STARTED, 0, "")
    orthanc.changed(orthanc.ChangeType.STABLE_STUDY, 1, name(1))
    wait_until(lambda: submitted_to(node) == [name(1)], "the study is submitted")
    orthanc.changed(orthanc.ChangeType.ORTHANC_STOPPED, 0, "")
    assert not [each for each in threading.enumerate() if each.name == "glionode"], "the thread has ended"
    assert orthanc.errors == []


def start_current(orthanc: FakeCurrentOrthanc, node: FakeNode) -> SubmissionQueue:
    """Return a queue of submissions that has started, without the thread that submits them."""
    queue = make_queue(orthanc, node)
    queue._thread = threading.Thread()  # not a second one beside the test
    queue.start()
    return queue


def test_a_current_orthanc_keeps_what_waits_when_it_is_killed(node: FakeNode) -> None:
    orthanc = FakeCurrentOrthanc()
    queue = start_current(orthanc, node)
    for number in (1, 2, 1):
        queue.add_stable(name(number))
    node.failure = NodeUnavailable("The node does not answer.")
    queue.run_due(0.0)
    assert (queue.waiting, len(orthanc.queue)) == (2, 3)
    # It is killed. The reservations of its queue expire; the studies are too old for a comparison to find them.
    restarted, node.failure = FakeCurrentOrthanc(queue=orthanc.queue), None
    start_current(restarted, node).run_due(0.0)
    assert submitted_to(node) == [name(1), name(2)]
    assert restarted.queue == []


def test_what_the_node_refuses_stays_in_the_queue_of_a_current_orthanc(node: FakeNode) -> None:
    orthanc = FakeCurrentOrthanc()
    queue = start_current(orthanc, node)
    queue.add_stable(name(1))
    for failure, left in ((NodeRefused("The node responded with HTTP 500."), 1), (StudyUnknown(), 0)):
        node.failure = failure
        orthanc.reserved.clear()
        queue.run_due(0.0)
        assert len(orthanc.queue) == left, "a study that was deleted leaves it"


def test_a_study_waits_in_memory_where_the_queue_cannot_be_used(node: FakeNode) -> None:
    orthanc = FakeCurrentOrthanc()
    queue = start_current(orthanc, node)
    orthanc.failing = True
    queue.add_stable(name(1))
    orthanc.failing = False
    queue.run_due(0.0)
    without = FakeCurrentOrthanc()
    without.has_queues = False  # as with MySQL
    queue = start_current(without, node)
    queue.add_stable(name(2))
    queue.run_due(0.0)
    assert (submitted_to(node), orthanc.queue, without.queue) == ([name(1), name(2)], [], [])


def test_submissions_are_in_the_audit_log_of_a_current_orthanc(node: FakeNode) -> None:
    orthanc = FakeCurrentOrthanc()
    queue = register(orthanc, node)
    assert queue is not None
    queue.add_stable(name(1))
    queue.run_due(0.0)
    headers = {"authorization": "Basic " + base64.b64encode(b"reader:secret").decode()}
    for each in (headers, {}, {"authorization": "Basic no base64"}, {"authorization": "Bearer x"}):
        orthanc.routes["/glionode/studies/(.*)"](
            RestOutput(), f"/glionode/studies/{name(2)}", method="POST", headers=each, body=b'{"force": true}'
        )
    study = orthanc.ResourceType.STUDY
    by_hand = json.dumps({"automatic": False, "force": True}).encode()
    assert orthanc.audit == [
        ("glionode", "glionode", study, name(1), "submit", b'{"automatic": true}'),
        ("glionode", "reader", study, name(2), "submit", by_hand),
        *[("glionode", "", study, name(2), "submit", by_hand)] * 3,
    ]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "pacs.example", "origin": "https://pacs.example"}, 200),
        ({"host": "inside:8042", "origin": "https://pacs.example", "sec-fetch-site": "same-origin"}, 200),
        ({"host": "pacs.example", "sec-fetch-site": "none"}, 200),
        ({"host": "pacs.example", "origin": "https://evil.example"}, 403),
        ({"host": "pacs.example", "origin": "null"}, 403),
        ({"host": "pacs.example", "origin": "https://pacs.example", "sec-fetch-site": "same-site"}, 403),
        ({"Host": "pacs.example", "Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_pages_of_other_sites_submit_nothing(
    orthanc: FakeOrthanc, node: FakeNode, headers: dict[str, str], status: int
) -> None:
    register(orthanc, node)
    output = RestOutput()
    path = f"/glionode/studies/{name(2)}"
    orthanc.routes["/glionode/studies/(.*)"](output, path, method="POST", headers=headers, body=b"")
    assert output.status == status
    assert submitted_to(node) == ([name(2)] if status == 200 else [])


def test_a_comparison_submits_missed_studies_once(orthanc: FakeOrthanc, node: FakeNode) -> None:
    orthanc.studies = [study(1), study(2, stable=False), study(3, 8 * DAY), *(study(n) for n in range(4, 124))]
    queue = make_queue(orthanc, node, reconcile_days=7.0, reconcile_every_s=300.0)
    now = 0.0
    while queue.waiting or now == 0.0 or len(orthanc.requested) < 3:
        now += queue.run_due(now)
    expected = [name(1), *(name(n) for n in range(4, 124))]
    assert (submitted_to(node), len(orthanc.requested)) == (expected, 3), "50 at a time"
    orthanc.studies[1]["IsStable"] = True
    orthanc.studies[5]["LastUpdate"] = "99991231T000000"
    for _ in range(3):
        now += 300.0
        queue.run_due(now)
    assert submitted_to(node)[len(expected) :] == [name(2), name(6)], "what is new, and nothing twice"


def test_a_new_study_does_not_wait_for_the_comparison(orthanc: FakeOrthanc, node: FakeNode) -> None:
    orthanc.studies = [study(n, 30 * DAY) for n in range(1000)]
    queue = make_queue(orthanc, node)
    queue.run_due(0.0)
    queue.add(name(5000))
    queue.run_due(0.1)
    assert submitted_to(node) == [name(5000)]
    assert len(orthanc.requested) == 2, "of 21 pages"


def test_no_study_is_lost_while_the_node_is_down(orthanc: FakeOrthanc, node: FakeNode) -> None:
    queue = make_queue(orthanc, node)
    node.failure = NodeUnavailable("The node does not answer.")
    for number in (1, 2, 3):
        queue.add(name(number))
    pauses, now = [], 0.0
    for _ in range(9):
        queue.run_due(now)
        pauses.append(queue._next_attempt - now)
        now = queue._next_attempt
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert (queue.waiting, orthanc.metrics["glionode_waiting"], orthanc.metrics["glionode_node_up"]) == (3, 3, 0)
    assert len(orthanc.warnings) == 1, "it is logged once"
    node.failure = None
    queue.run_due(now)
    assert sorted(submitted_to(node)) == [name(1), name(2), name(3)]
    assert (orthanc.metrics["glionode_waiting"], orthanc.metrics["glionode_node_up"]) == (0, 1)


def test_a_refused_study_does_not_delay_others(orthanc: FakeOrthanc, node: FakeNode) -> None:
    orthanc.studies = [study(1)]
    queue = make_queue(orthanc, node, reconcile_every_s=300.0)
    node.failure = NodeRefused("The node responded with HTTP 500.")
    queue.run_due(0.0)
    queue.run_due(300.0)
    assert (queue.waiting, len(orthanc.errors)) == (0, 1), "it is logged once"
    node.failure = None
    queue.run_due(600.0)
    assert submitted_to(node) == [name(1)], "the next comparison submits it again"


def test_a_refusal_does_not_count_as_the_node_answering_again(orthanc: FakeOrthanc, node: FakeNode) -> None:
    queue = make_queue(orthanc, node)
    queue.add(name(1))
    for now, failure in ((0.0, NodeUnavailable("away")), (1.0, NodeRefused("The node responded with HTTP 500."))):
        node.failure = failure
        queue.run_due(now)
    assert (len(orthanc.warnings), len(orthanc.errors), orthanc.metrics["glionode_node_up"]) == (1, 1, 0)
    node.failure = None
    queue.add(name(1))
    queue.run_due(2.0)
    assert (len(orthanc.warnings), orthanc.metrics["glionode_node_up"]) == (2, 1)


def test_all_studies_are_submitted_again_to_a_node_with_another_database(orthanc: FakeOrthanc, node: FakeNode) -> None:
    orthanc.studies = [study(1)]
    queue = make_queue(orthanc, node, reconcile_every_s=300.0)
    for now in (0.0, 31.0, 300.0, 331.0):
        queue.run_due(now)
    assert submitted_to(node) == [name(1)]
    node.database = "another one"
    assert queue.run_due(362.0) == 0, "at once"
    for now in (363.0, 663.0, 700.0):
        queue.run_due(now)
    assert (submitted_to(node), len(orthanc.warnings)) == ([name(1), name(1)], 1)


def test_a_study_that_the_node_does_not_find_is_submitted_again(orthanc: FakeOrthanc, node: FakeNode) -> None:
    orthanc.studies = [study(1), study(2)]
    queue = make_queue(orthanc, node, reconcile_every_s=300.0)
    node.failure = StudyUnknown()
    for now in (0.0, 300.0):
        queue.run_due(now)
    assert (queue.waiting, submitted_to(node), len(orthanc.warnings)) == (0, [], 1), "it is logged once"
    node.failure = None  # its orthanc.url was wrong
    queue.run_due(600.0)
    assert submitted_to(node) == [name(1), name(2)]
    node.failure, orthanc.studies = StudyUnknown(), [study(3)]
    queue.run_due(900.0)
    orthanc.studies = []  # it was deleted in Orthanc
    node.failure = None
    queue.run_due(1200.0)
    assert (submitted_to(node), queue.waiting, len(orthanc.warnings)) == ([name(1), name(2)], 0, 2)


def test_a_comparison_is_repeated_after_an_error_of_orthanc(orthanc: FakeOrthanc, node: FakeNode) -> None:
    orthanc.studies, orthanc.failing = [study(1)], True
    queue = make_queue(orthanc, node, reconcile_every_s=300.0)
    queue.add(name(2))
    queue.run_due(0.0)
    assert (submitted_to(node), len(orthanc.errors)) == ([name(2)], 1)
    orthanc.failing = False
    queue.run_due(299.0)
    queue.run_due(300.0)
    assert submitted_to(node) == [name(2), name(1)]


def test_no_study_is_lost_when_the_comparison_fails(orthanc: FakeOrthanc, node: FakeNode) -> None:
    queue = make_queue(orthanc, node, reconcile_days=1e6, reconcile_every_s=300.0)  # before the first year
    queue.add(name(2))
    queue.run_due(0.0)
    assert (submitted_to(node), len(orthanc.errors)) == ([name(2)], 1)
    queue.run_due(299.0)
    assert len(orthanc.errors) == 1, "it is repeated at its time"
    orthanc.RestApiGet = None  # type: ignore[assignment,method-assign]
    orthanc.OrthancException = None  # type: ignore[assignment,misc] - so that not even that is caught
    queue = make_queue(orthanc, node, reconcile_every_s=300.0)
    queue.add(name(3))
    with pytest.raises(TypeError):
        queue.run_due(0.0)
    queue.run_due(1.0)
    assert submitted_to(node) == [name(2), name(3)]


def test_without_submit_stable_only_requests_submit_studies(node: FakeNode) -> None:
    orthanc = FakeOrthanc({"SubmitStable": False})
    orthanc.studies = [study(1)]
    queue = register(orthanc, node)
    assert queue is not None
    orthanc.changed(orthanc.ChangeType.STABLE_STUDY, 1, name(1))
    queue.run_due(0.0)
    assert (submitted_to(node), orthanc.requested) == ([], [])
    assert orthanc.request("POST", f"/glionode/studies/{name(1)}", body=b"").status == 200
    assert node.submitted == [(name(1), True, False)]


@pytest.mark.parametrize(
    ("request_of", "force"),
    [
        ({"body": b'{"force": true}'}, True),
        ({"body": b'{"force": false}'}, False),
        ({"body": b"no JSON"}, False),
        ({"body": b"[1]"}, False),
        ({"get": {"force": ""}}, True),
        ({"get": {"force": "0"}, "body": b'{"force": true}'}, False),
        ({}, False),
    ],
)
def test_a_request_may_force_a_repetition(
    orthanc: FakeOrthanc, node: FakeNode, request_of: dict[str, Any], force: bool
) -> None:
    register(orthanc, node)
    answer = orthanc.request("POST", f"/glionode/studies/{name(1)}", **request_of)
    assert (answer.status, json.loads(answer.body)) == (200, {"state": "queued"})
    assert node.submitted == [(name(1), True, force)]


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (None, 200),
        (NodeUnavailable("away"), 503),
        (StudyUnknown(), 404),
        (NodeRefused("The node responded with HTTP 500."), 502),
        (ValueError("x"), 500),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_every_request_gets_a_response_whatever_the_node_does(
    orthanc: FakeOrthanc, node: FakeNode, method: str, failure: Exception | None, status: int
) -> None:
    register(orthanc, node)
    node.failure = failure
    answer = orthanc.request(method, f"/glionode/studies/{name(1)}", body=b"")
    assert (answer.status, answer.headers["Content-Type"]) == (status, "application/json")
    assert ("error" in json.loads(answer.body)) == (status != 200)


def test_malformed_requests_do_not_reach_the_node(orthanc: FakeOrthanc, node: FakeNode) -> None:
    register(orthanc, node)
    for wrong in ("", "1.2.3", f"{name(1)}/x", f"x{name(1)}", name(1).replace("0", "A"), "../../results"):
        assert orthanc.request("POST", f"/glionode/studies/{wrong}", body=b"").status == 404
    assert orthanc.request("DELETE", f"/glionode/studies/{name(1)}").status == 405
    assert orthanc.request("POST", "/glionode/status", body=b"").status == 405
    assert node.submitted == []


def test_status_and_metrics_show_the_state_of_the_node(orthanc: FakeOrthanc, node: FakeNode) -> None:
    queue = register(orthanc, node)
    assert queue is not None
    found = json.loads(orthanc.request("GET", "/glionode/status").body)
    assert (found["node"], found["waiting"], found["jobs"]["segmented"]) == ("up", 0, 3)
    queue.run_due(0.0)
    jobs = {key: value for key, value in orthanc.metrics.items() if key.startswith("glionode_jobs")}
    assert jobs == {"glionode_jobs_segmented": 3, "glionode_jobs_not_eligible": 1}
    node.failure = NodeUnavailable("The node does not answer.")
    found = json.loads(orthanc.request("GET", "/glionode/status").body)
    assert (found["node"], found["why"]) == ("away", "The node does not answer.")
    for failure in (NodeRefused("The node responded with HTTP 500."), StudyUnknown()):
        node.failure = failure
        found = json.loads(orthanc.request("GET", "/glionode/status").body)
        assert (found["node"], found["why"]) == ("refuses", str(failure))


@pytest.mark.parametrize(
    "section",
    [
        {"Ulr": "http://127.0.0.1:8114"},
        {"Url": "ftp://127.0.0.1"},
        {"Url": "http://127.0.0.1:8114/api"},
        {"Url": "http://user:secret@127.0.0.1:8114"},
        {"Url": "http://127.0.0.1:8114/?secret"},
        {"Url": "http://127.0.0.1:8114#secret"},
        {"Url": "http://127.0.0.1:99999"},
        {"Url": "http://127.0.0.1:secret"},
        {"Url": "http://[secret:8114"},
        {"Url": "http://127.0.0.1:8114\nsecret"},
        {"Url": "http://node:8114", "TokenFile": "glionode.token"},
        {"Insecure": 1},
        {"TimeoutSeconds": "10"},
        {"TimeoutSeconds": True},
        {"ReconcileDays": 0},
        {"ReconcileDays": 36501},
        {"SubmitStable": "yes"},
        [],
    ],
)
def test_with_a_wrong_section_the_script_stays_inactive_and_orthanc_runs(section: object) -> None:
    orthanc = FakeOrthanc(section)
    assert register(orthanc) is None
    assert (orthanc.changed, orthanc.routes, len(orthanc.errors)) == (None, {}, 1)
    assert "secret" not in orthanc.errors[0]


@pytest.mark.parametrize(
    "section",
    [
        {"Url": "http://node:8114"},
        {"Url": "http://node:8114", "TokenFile": "glionode.token", "Insecure": True},
        {"Url": "https://node:8114/", "TokenFile": "glionode.token"},
        {"Url": "http://localhost:8114", "TokenFile": "glionode.token"},
        {"Url": "http://[::1]:8114", "TokenFile": "glionode.token"},
    ],
)
def test_a_token_crosses_a_network_only_as_the_settings_allow(section: dict[str, Any]) -> None:
    assert parse_node_settings(section).url == section["Url"]


def test_the_example_configuration_shows_every_setting_with_its_default() -> None:
    text = (ROOT / "orthanc-config" / "orthanc.json").read_text()
    # Orthanc's JSON may have comments; none of its texts here has two slashes after a blank.
    section = json.loads("\n".join(line.partition(" //")[0] for line in text.splitlines()))["GlioNode"]
    assert parse_node_settings(section) == NodeSettings(token_file="glionode.token")
    assert len(section) == len(NodeSettings.__dataclass_fields__)
    with pytest.raises(NodeSettingsWrong, match="Ulr is no setting"):
        parse_node_settings({"Ulr": ""})


class NodeServer(ThreadingHTTPServer):
    """A node that responds with `answer`."""

    answer = (200, b"{}")
    seen: list[tuple[str, str, str]]


@pytest.fixture
def server() -> Iterator[NodeServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.seen.append((self.command, self.path, self.headers["Authorization"]))
            status, body = server.answer
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    server = NodeServer(("127.0.0.1", 0), Handler)
    server.seen = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_requests_over_http_and_their_errors(server: NodeServer, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("the-token\n")
    settings = NodeSettings(url=f"http://127.0.0.1:{server.server_address[1]}", token_file=str(token))
    node = HttpNode(settings)
    server.answer = (202, b'{"state": "queued"}')
    assert node.submit(name(1), urgent=True) == {"state": "queued"}
    assert server.seen == [
        ("POST", f"/api/orthanc/studies/{name(1)}?urgent=true&force=false", "Bearer the-token"),
    ]
    server.answer = (200, b'{"status": "ok"}')
    with pytest.raises(NodeUnavailable, match="is no node"):
        node.submit(name(1))
    for status, body, raised in (
        (401, b"", NodeUnavailable),
        (503, b"", NodeUnavailable),
        (404, b'{"detail": {"glionode": "study_unknown"}}', StudyUnknown),
        (404, b"", NodeUnavailable),
        (404, b'{"detail": "Not Found"}', NodeUnavailable),
        (404, b'{"HttpStatus": 404, "Message": "Unknown resource"}', NodeUnavailable),
        (404, b"[]", NodeUnavailable),
        (500, b"", NodeRefused),
        (409, b"", NodeRefused),
        (200, b"<html>", NodeRefused),
        (200, b"[]", NodeRefused),
    ):
        server.answer = (status, body)
        with pytest.raises(raised):
            node.outcome(name(1))
    server.answer = (409, b'{"detail": {"glionode": "two_studies", "why": "Orthanc has 2 studies."}}')
    with pytest.raises(NodeRefused, match="Orthanc has 2 studies"):
        node.submit(name(1))
    token.write_text("the-token\nanother\n")
    with pytest.raises(NodeUnavailable, match=r"TokenFile .* must hold one line"):
        node.status()
    with pytest.raises(NodeUnavailable, match=r"does not answer \(InvalidURL\)"):
        HttpNode(NodeSettings(url="http://127.0.0.1:80")).outcome("a study")
    with pytest.raises(NodeUnavailable, match=r"does not answer \(ValueError\)"):
        HttpNode(NodeSettings(url="http://127.0.0.1:99999")).status()
    token.unlink()
    with pytest.raises(NodeUnavailable, match="TokenFile"):
        node.status()


def test_a_node_that_hangs_is_unavailable(server: NodeServer) -> None:
    url = f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()  # it takes connections and answers none
    with pytest.raises(NodeUnavailable, match="does not answer"):
        HttpNode(NodeSettings(url=url, timeout_s=0.05)).status()
    node = HttpNode(NodeSettings(url=url, timeout_s=60))
    raised: list[Exception] = []

    def request() -> None:
        try:
            node.status()
        except NodeUnavailable as exc:
            raised.append(exc)

    thread = threading.Thread(target=request)
    thread.start()
    wait_until(lambda: any(each.sock for each in node._open), "a request runs")
    node.abort()
    thread.join(10)
    assert len(raised) == 1, "Orthanc does not wait for the node when it stops"
