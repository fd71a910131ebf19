"""`glionode diagnostics`: useful to find a fault, and without anything that names a patient, a study or a machine."""

import json
import logging
import os
import re
import socket
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from plugin.logs import TextFormatter
from plugin.node import diagnostics
from plugin.node.diagnostics import write_diagnostics
from plugin.node.pseudonyms import Pseudonyms
from plugin.settings.sections import Settings
from tests.support.node import (
    MARKER,
    NodeInThread,
    config_of,
    glionode,
    make_instance,
    new_study_uid,
    send,
    wait_until,
)

UID = "1.2.826.0.1.3680043.8.498.4711"


def read(path: Path) -> dict[str, str]:
    with zipfile.ZipFile(path) as collection:
        return {name: collection.read(name).decode() for name in collection.namelist()}


def test_what_names_something_is_replaced_and_the_rest_stays() -> None:
    pseudonyms = Pseudonyms([("ae", "MR1"), ("ae", "MR10"), ("host", "pacs.hospital.example"), ("ae", "")])
    text = (
        f"2026-11-30 19:04:17,123 sent {UID}.5 to MR10 (MR1) at pacs.hospital.example:104, 192.0.2.10, 2001:db8::7 "
        f"job {UID}-0123456789abcdef failed in 18.1.0, class 1.2.840.10008.5.1.4.1.1.4, on 127.0.0.1 and ::1, MR12"
    )
    found = pseudonyms.apply(text)
    assert re.sub(r"-[0-9a-f]{8}\b", "-#", found) == (
        "2026-11-30 19:04:17,123 sent uid-# to ae-# (ae-#) at host-#:104, address-#, address-# "
        "job job-# failed in 18.1.0, class 1.2.840.10008.5.1.4.1.1.4, on 127.0.0.1 and ::1, MR12"
    )
    assert pseudonyms.apply(text) == found, "the same text has the same replacement"
    assert Pseudonyms().apply(UID) != Pseudonyms().apply(UID), "that of the next collection cannot be compared"


def test_an_exception_is_logged_without_its_message() -> None:
    try:
        raise ValueError(MARKER)
    except ValueError as exc:
        record = logging.LogRecord("a", logging.ERROR, "", 0, "failed", None, (ValueError, exc, exc.__traceback__))
    said = TextFormatter().format(record)
    assert said.endswith("ValueError")
    assert "test_diagnostics.py" in said
    assert MARKER not in said.replace("ValueError(MARKER)", "")


def test_a_collection_names_no_patient_study_or_machine(
    make_node: Callable[..., NodeInThread], tmp_path: Path, data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    destination = {"name": "archive-of-ward-7", "ae_title": "SECRETAE", "host": "pacs.hospital.example", "port": 104}
    sender = {"ae_title": "SCANNER", "networks": ["127.0.0.1"]}
    node = make_node(destinations=[destination], listener={"port": 0, "ae_title": "WARD7", "senders": [sender]})
    node.settings = node.settings.model_copy(
        update={"listener": node.settings.listener.model_copy(update={"check_called_ae_title": False})}
    )
    node.start("fail")
    study = new_study_uid()
    instances = [make_instance(study) for _ in range(2)]
    send(node.port, *instances)
    wait_until(lambda: node.jobs_are(failed=1), "the job is failed")
    wait_until(lambda: "SCANNER" in str(query_audit(node)), "the reception is in the audit")
    out = tmp_path / "found.zip"
    write_diagnostics(node.settings, out)
    parts = read(out)
    whole = "\n".join((*parts, *parts.values()))
    identifying = [
        *(MARKER, study, "SCANNER", "WARD7", "SECRETAE", "pacs.hospital.example", "archive-of-ward-7"),
        *(str(each.SOPInstanceUID) for each in instances),
        *(str(data_dir), socket.gethostname()),
    ]
    assert [each for each in identifying if each in whole] == []
    assert json.loads(parts["status.json"])["jobs"] == {"failed": 1}
    assert json.loads(parts["versions.json"])["postgresql"] >= 180000
    (job,) = json.loads(parts["jobs.json"])
    assert job["study_instance_uid"].startswith("uid-")
    assert "listening as ae-" in parts["node.log"]
    assert f"job {job['key']} failed" in parts["worker.log"], "what belongs together is seen"
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert json.loads(parts["settings.json"])["database"]["url"] == ""
    status, said = glionode("diagnostics", tmp_path / "again.zip", "--config", config_of(node, tmp_path))
    assert (status, "node.log" in said) == (0, True)


def query_audit(node: NodeInThread) -> list[object]:
    import psycopg

    from plugin.database.pool import database_url

    with psycopg.connect(database_url(node.settings)) as connection:
        return list(connection.execute("SELECT peer_ae_title FROM glionode_audit").fetchall())


def test_a_collection_of_a_node_that_does_not_run_has_what_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(storage={"data_dir": str(tmp_path)}, database={"url": ""})

    def fail(_: object) -> str:
        raise PermissionError(13, "x")

    monkeypatch.setattr(diagnostics, "_status", fail)
    write_diagnostics(settings, tmp_path / "found.zip")
    parts = read(tmp_path / "found.zip")
    assert parts["status.json"].startswith("Permission denied.")
    assert parts["jobs.json"].startswith("The node does not run")
    assert parts["database.log"] == "No such file or directory\n"
    assert json.loads(parts["versions.json"])["processors"] == os.cpu_count()
    with pytest.raises(FileExistsError):
        write_diagnostics(settings, tmp_path / "found.zip")


def test_a_password_in_the_database_s_address_is_not_shown(tmp_path: Path) -> None:
    url = "postgresql://glionode:SECRETPASSWORD@127.0.0.1:1/glionode"
    settings = Settings(storage={"data_dir": str(tmp_path)}, database={"url": url})
    assert "SECRET" not in diagnostics._settings(settings)
