"""The status of nodes that do not run, that left files behind, or that belong to another user."""

import json
import os
import pwd
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from plugin.archive.quarantine import quarantine_folder
from plugin.commitment.pending_requests import PendingRequests
from plugin.database.pool import Database
from plugin.dimse.commitment_messages import CommitmentRequest, Reference
from plugin.listener.access_control import Refusal
from plugin.listener.refusals import RefusalCounter
from plugin.node.lock import RunningNode, announce, node_lock, running_node
from plugin.node.status import read_status
from plugin.settings.sections import Settings
from tests.support.node import insert_job, query, write_model
from tests.support.paths import ROOT


def settings_in(folder: Path, **more: Any) -> Settings:
    model = {"name": "stand-in", "installed_dir": str(folder / "models")}
    return Settings(storage={"data_dir": str(folder / "data")}, model=model, **more)


def test_a_node_that_never_ran(data_dir: Path) -> None:
    write_model(data_dir / "models/stand-in", "demonstration")
    destination = {"name": "pacs", "ae_title": "PACS", "host": "h", "port": 1}
    status = read_status(settings_in(data_dir, destinations=[destination]))
    assert (status.running, status.receiving, status.database_answers) == (None, False, False)
    assert status.model == "stand-in 1 (demonstration)"
    assert "accepts_demonstration" in (status.destinations[0].refused_because or "")
    assert json.loads(json.dumps(asdict(status)))["studies_received"] == 0
    assert not (data_dir / "data").exists(), "reading the status creates nothing"


def test_refused_peers_and_objects_are_counted(data_dir: Path) -> None:
    folder = settings_in(data_dir).data_dir
    quarantine_folder(folder).mkdir(parents=True)
    (quarantine_folder(folder) / "0.dcm").write_bytes(b"no DICOM")
    refusals = RefusalCounter(folder)
    for refusal in (Refusal.TOO_SLOW, Refusal.ADDRESS, Refusal.TOO_SLOW):
        refusals.count(refusal)
    status = read_status(settings_in(data_dir))
    assert (status.quarantined, status.refused) == (1, {"too slow": 2, "address not allowed": 1})
    RefusalCounter(folder)
    assert read_status(settings_in(data_dir)).refused == {}, "it counts from the node's start"


def test_pending_storage_commitment_requests_are_counted(data_dir: Path) -> None:
    settings = settings_in(data_dir)
    assert read_status(settings).commitments_pending == 0
    requests = PendingRequests(settings.data_dir)
    requests.add("AE", "", CommitmentRequest("1.2.3", (Reference("1.2", "1.3"),)))
    assert read_status(settings).commitments_pending == 1


def test_a_missing_model(data_dir: Path) -> None:
    assert read_status(settings_in(data_dir)).model.startswith("unusable: ")


def test_a_destination_that_was_removed_from_the_settings(data_dir: Path, database: Database) -> None:
    insert_job(database, "k", "1")
    query(
        database,
        "INSERT INTO glionode_outbox (sop_instance_uid, destination, job_key, path, state) "
        "VALUES ('1.2', 'gone', 'k', '/x', 'queued')",
    )
    status = read_status(settings_in(data_dir, database={"url": database.url}))
    assert status.database_answers
    assert [(each.name, each.objects) for each in status.destinations] == [("gone", {"queued": 1})]
    assert "not in the settings" in (status.destinations[0].refused_because or "")


def test_the_note_of_a_node_is_valid_only_while_it_runs(data_dir: Path) -> None:
    node = RunningNode(os.getpid(), "GLIONODE", "127.0.0.1", 11112, 0.0)
    with node_lock(data_dir):
        assert running_node(data_dir) is None, "it is not ready yet"
        announce(data_dir, node)
        assert running_node(data_dir) == node
        note = (data_dir / "serve.json").read_text()
    assert running_node(data_dir) is None
    (data_dir / "serve.json").write_text(note)
    assert running_node(data_dir) is None, "the note of a killed node is not valid"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")
def test_the_node_of_another_user_is_not_reported_as_stopped(data_dir: Path) -> None:
    with node_lock(data_dir):
        nobody = pwd.getpwnam("nobody")
        group, user = [nobody.pw_gid] * 3, [nobody.pw_uid] * 3
        code = (
            "import os, sys; from pathlib import Path; from plugin.node.lock import running_node\n"
            f"os.setgroups([]); os.setresgid(*{group}); os.setresuid(*{user})\n"
            "running_node(Path(sys.argv[1]))"
        )
        root = str(ROOT)
        command = [sys.executable, "-c", code, str(data_dir)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    assert "belongs to another user" in done.stderr
