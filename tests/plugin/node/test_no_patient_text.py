"""A study with a marker in every text element is processed by a node; nothing but its files may contain the marker."""

import json
import socket
import struct
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import _config

from plugin.archive.file_meta import encode_file_meta
from plugin.database.pool import database_url
from plugin.node.lock import RunningNode
from tests.support.listener import association
from tests.support.node import (
    MARKER,
    MR_IMAGE_STORAGE,
    NodeInThread,
    make_instance,
    new_study_uid,
    run,
    send,
    wait_until,
)
from tests.support.node_process import NodeInProcess

MakeNode = Callable[..., NodeInThread]

# At least one element of each value representation that holds text (PS3.5 6.2), even if the marker is not valid in it.
TEXTS = (
    *((0x0008, 0x0012, "DA"), (0x0008, 0x0013, "TM"), (0x0008, 0x002A, "DT"), (0x0008, 0x0050, "SH")),
    *((0x0008, 0x0080, "LO"), (0x0008, 0x0081, "ST"), (0x0008, 0x0090, "PN"), (0x0008, 0x0119, "UC")),
    *((0x0008, 0x0120, "UR"), (0x0008, 0x1010, "SH"), (0x0008, 0x1030, "LO"), (0x0008, 0x103E, "LO")),
    *((0x0008, 0x1050, "PN"), (0x0008, 0x1070, "PN"), (0x0010, 0x0010, "PN"), (0x0010, 0x0020, "LO")),
    *((0x0010, 0x0030, "DA"), (0x0010, 0x0032, "TM"), (0x0010, 0x0040, "CS"), (0x0010, 0x1000, "LO")),
    *((0x0010, 0x1010, "AS"), (0x0010, 0x1030, "DS"), (0x0010, 0x2160, "SH"), (0x0010, 0x21B0, "LT")),
    *((0x0010, 0x4000, "LT"), (0x0018, 0x0015, "CS"), (0x0018, 0x0081, "DS"), (0x0018, 0x1030, "LO")),
    *((0x0020, 0x0010, "SH"), (0x0020, 0x0011, "IS"), (0x0020, 0x0052, "UI"), (0x0020, 0x4000, "LT")),
    *((0x0032, 0x1060, "LO"), (0x0032, 0x4000, "LT"), (0x0040, 0x0001, "AE"), (0x0040, 0x1003, "SH")),
    *((0x0040, 0xA160, "UT"), (0x4008, 0x010B, "ST"), (0x0029, 0x0010, "LO"), (0x0029, 0x1001, "LO")),
    *((0x0029, 0x1002, "UT"), (0x0029, 0x1003, "UN"), (0x0029, 0x1004, "PN"), (0x0031, 0x1001, "UN")),
)


def marked(study: str, number: int, folder: Path) -> Path:
    """Write an instance with the marker in every text element, also in nested sequences; return its path.

    Encoded here (PS3.5 7.1.2), because pydicom writes no text that is not valid.
    """
    uid = f"{study}.2.{number}"
    items = {(group, tag): element(group, tag, vr, f"{MARKER}^{vr}".encode()) for group, tag, vr in TEXTS}
    inner = b"".join(items[key] for key in sorted(items))
    outer = b"".join(
        [*(items[key] for key in sorted(items) if key < (0x0040, 0x0275)), sequence(0x0040, 0x0275, inner)]
    )
    items[0x0008, 0x0016] = element(0x0008, 0x0016, "UI", MR_IMAGE_STORAGE.encode())
    items[0x0008, 0x0018] = element(0x0008, 0x0018, "UI", uid.encode())
    items[0x0008, 0x1110] = sequence(0x0008, 0x1110, outer)
    items[0x0020, 0x000D] = element(0x0020, 0x000D, "UI", study.encode())
    items[0x0020, 0x000E] = element(0x0020, 0x000E, "UI", f"{study}.1".encode())
    items[0x0040, 0x0275] = sequence(0x0040, 0x0275, outer)  # where the listener looks for a priority
    head = encode_file_meta(MR_IMAGE_STORAGE, uid, ExplicitVRLittleEndian)
    path = folder / f"{uid}.dcm"
    path.write_bytes(head + b"".join(items[key] for key in sorted(items)))
    return path


def element(group: int, tag: int, vr: str, value: bytes) -> bytes:
    value += (b"\0" if vr == "UI" else b" ") * (len(value) % 2)
    if vr in ("SQ", "UC", "UN", "UR", "UT"):
        return struct.pack("<HH2s2xL", group, tag, vr.encode(), len(value)) + value
    return struct.pack("<HH2sH", group, tag, vr.encode(), len(value)) + value


def sequence(group: int, tag: int, item: bytes) -> bytes:
    return element(group, tag, "SQ", struct.pack("<HHL", 0xFFFE, 0xE000, len(item)) + item)


def send_files(port: int, *files: Path) -> list[int]:
    """Send files with their bytes unchanged."""
    with association(port) as peer:
        return [peer.send_c_store(file).Status for file in files]


@pytest.fixture
def _send_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_config, "STORE_SEND_CHUNKED_DATASET", True)


def get(node: RunningNode, path: str) -> str:
    with urllib.request.urlopen(node.http_url + path, timeout=10) as answer:
        return str(answer.read().decode())


def send_garbage(port: int, study: str) -> None:
    """What does not parse, and a connection that says the marker in place of a PDU."""
    broken = make_instance(study)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(f"{MARKER} GET / HTTP/1.1\r\n\r\n".encode() * 20)
    other = make_instance(study)
    other.SOPInstanceUID = broken.SOPInstanceUID
    other.PatientName = f"{MARKER}^OTHER"
    image = deepcopy(other)
    image.PixelData = bytes(128)
    assert send(port, broken, other, image) == [0x0000, 0x0000, 0xC004]


def rows_of(url: str) -> Iterator[str]:
    """Every row of every table, as text."""
    with psycopg.connect(url) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        assert len(tables) > 5
        for (table,) in tables:
            rows = connection.execute(sql.SQL("SELECT t::text FROM {} AS t").format(sql.Identifier(table))).fetchall()
            yield from (f"{table}: {row}" for (row,) in rows)


@contextmanager
def in_process(node: NodeInThread, folder: Path, log_format: str) -> Iterator[NodeInProcess]:
    """Run a node in a process of its own, which is ended with the block."""
    process = NodeInProcess(node, folder, http={"enabled": True, "port": 0}, logging={"format": log_format})
    try:
        yield process
    finally:
        process.process.terminate()
        assert process.process.wait(30) == 0


@pytest.mark.usefixtures("_send_unchanged")
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_header_text_is_shown_anywhere(make_node: MakeNode, data_dir: Path, log_format: str) -> None:
    node = make_node()
    data, study, failing = node.settings.data_dir, new_study_uid(), new_study_uid()
    with in_process(node, data_dir, log_format) as process:
        assert send_files(process.port, *(marked(study, number, data_dir) for number in (1, 2, 3))) == [0x0000] * 3
        wait_until(lambda: node.jobs_are(segmented=1), "it is segmented")
        (node.controls / "fail").touch()
        send_files(process.port, *(marked(failing, number, data_dir) for number in (1, 2)))
        wait_until(lambda: node.jobs_are(segmented=1, failed=1), "another fails, with a message that quotes a name")
        send_garbage(process.port, new_study_uid())
        wait_until(lambda: sum(node.status().jobs.values()) == 3, "and a third has its job")
        shown = {
            "metrics": get(process.node, "/metrics"),
            "names": "\n".join(str(path.relative_to(data)) for path in data.rglob("*")),
            "database": "\n".join(rows_of(database_url(node.settings))),
        }
        for command in (("status",), ("jobs",), ("show", study), ("show", failing)):
            for options in ((), ("--json",)):
                _, shown[" ".join([*command, *options])] = run(process.config, *command, *options)
    shown["log"] = process.log.read_text()
    assert [place for place, text in shown.items() if MARKER.lower() in text.lower()] == []
    received = b"".join(path.read_bytes() for path in (data / "archive").rglob("*.dcm"))
    assert received.count(MARKER.encode()) > 5 * 3 * len(TEXTS), "it was received"
    assert study in shown["log"], "the log mentions it"
    assert study in shown["database"]
    assert "glionode_instances_received_total 7.0" in shown["metrics"]
    assert 'glionode_instances_refused_total{reason="other image under this UID"} 1.0' in shown["metrics"]
    assert 'glionode_step_seconds_count{step="segment"} ' in shown["metrics"]
    if log_format == "json":
        entries = [json.loads(line) for line in shown["log"].splitlines()]
        assert all({"time", "level", "logger", "message"} <= entry.keys() for entry in entries)
        assert {entry.get("study_instance_uid") for entry in entries} >= {study, failing}
