"""A whole node with destinations that fail in several ways: each gets all objects in the end and delays no other."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.committing_pacs import CommittingPacs
from tests.support.fake_stow_server import FakeStowServer
from tests.support.node import MARKER, NodeInThread, config_of, make_instance, new_study_uid, run, send, wait_until


@pytest.fixture
def server() -> Iterator[FakeStowServer]:
    made = FakeStowServer()
    yield made
    made.stop()


def test_a_failing_destination_delays_no_other(
    make_node: Callable[..., NodeInThread], committing_pacs: CommittingPacs, server: FakeStowServer, data_dir: Path
) -> None:
    gone = FakeStowServer()
    gone.stop()
    node = make_node(
        destinations=[
            committing_pacs.destination(commitment_timeout_s=1),
            {"name": "web", "url": server.url},
            {"name": "gone", "url": gone.url},
        ]
    )
    study = new_study_uid()
    results = [f"{study}.99.1", f"{study}.99.2"]
    committing_pacs.failing = {results[0]: 0x0110}
    server.statuses = [503]
    server.reasons = {results[1]: 0xA700}
    node.start()
    committing_pacs.report_to = node.port
    send(node.port, *(make_instance(study) for _ in range(2)))
    wait_until(lambda: results[0] in server.stored, "the web server has one")
    wait_until(lambda: committing_pacs.received.count(results[0]) >= 3, "an object that is not committed is sent again")
    pacs, _, dead = node.status().destinations
    assert pacs.objects["committed"] == 1
    assert dead.objects == {"failed": 2}
    assert gone.url in (dead.last_error or "")
    committing_pacs.failing, server.reasons = {}, {}

    def objects() -> list[dict[str, int]]:
        return [each.objects for each in node.status().destinations]

    wait_until(lambda: objects() == [{"committed": 2}, {"sent": 2}, {"failed": 2}], "the others have all")
    assert sorted(server.stored) == results
    assert committing_pacs.received.count(results[1]) == 1, "a committed object is not sent again"
    status, text = run(config_of(node, data_dir), "show", study, "--json")
    shown: dict[str, Any] = json.loads(text)
    assert status == 0
    assert shown["job"]["objects"] == {"committed": 2, "failed": 2, "sent": 2}
    deliveries = {each["destination"]: each for output in shown["outputs"] for each in output["deliveries"]}
    assert deliveries["pacs"]["committed_at"] is not None
    assert deliveries["web"]["committed_at"] is None
    audited = [
        (entry["peer_ae_title"], entry["detail"].split(",")[0])
        for entry in shown["audit"]
        if entry["what"] == "committed"
    ]
    assert sorted(audited) == [("PACS", f"{uid} to pacs") for uid in results]
    assert MARKER not in text
