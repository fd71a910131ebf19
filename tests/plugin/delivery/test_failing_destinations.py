"""A whole node with destinations of every kind, some of which fail: what is said of them, and that each gets all in the
end without waiting for another.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.committing_pacs import CommittingPacs
from tests.support.fake_stow_server import WebArchive
from tests.support.node import MARKER, NodeInThread, config_of, make_instance, new_study_uid, run, send, wait_until


@pytest.fixture
def web() -> Iterator[WebArchive]:
    archive = WebArchive()
    yield archive
    archive.stop()


def test_each_destination_gets_all_in_its_own_time(
    make_node: Callable[..., NodeInThread], committing: CommittingPacs, web: WebArchive, data_dir: Path
) -> None:
    gone = WebArchive()
    gone.stop()
    node = make_node(
        destinations=[
            committing.destination(commitment_timeout_s=1),
            {"name": "web", "url": web.url},
            {"name": "gone", "url": gone.url},
        ]
    )
    study = new_study_uid()
    results = [f"{study}.99.1", f"{study}.99.2"]
    committing.failing = {results[0]: 0x0110}
    web.statuses = [503]
    web.reasons = {results[1]: 0xA700}
    node.start()
    committing.report_to = node.port
    send(node.port, *(make_instance(study) for _ in range(2)))
    wait_until(lambda: results[0] in web.stored, "the web server has one")
    wait_until(lambda: committing.received.count(results[0]) >= 3, "what is not committed to is sent again")
    pacs, _, dead = node.status().destinations
    assert pacs.objects["committed"] == 1
    assert dead.objects == {"failed": 2}
    assert gone.url in (dead.last_error or "")
    committing.failing, web.reasons = {}, {}

    def objects() -> list[dict[str, int]]:
        return [each.objects for each in node.status().destinations]

    wait_until(lambda: objects() == [{"committed": 2}, {"sent": 2}, {"failed": 2}], "the others have all")
    assert sorted(web.stored) == results
    assert committing.received.count(results[1]) == 1, "what is committed to is not sent again"
    status, text = run(config_of(node, data_dir), "show", study, "--json")
    shown: dict[str, Any] = json.loads(text)
    assert status == 0
    assert shown["job"]["objects"] == {"committed": 2, "failed": 2, "sent": 2}
    deliveries = {each["destination"]: each for output in shown["outputs"] for each in output["deliveries"]}
    assert deliveries["pacs"]["committed_at"] is not None
    assert deliveries["web"]["committed_at"] is None
    told = [
        (entry["peer_ae_title"], entry["detail"].split(",")[0])
        for entry in shown["audit"]
        if entry["what"] == "committed"
    ]
    assert sorted(told) == [("PACS", f"{uid} to pacs") for uid in results]
    assert MARKER not in text
