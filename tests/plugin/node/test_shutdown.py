"""SIGTERM ends a node within shutdown.drain_s, whatever senders, clients, plugins, peers, jobs and the database do."""

import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydicom.uid import ExplicitVRLittleEndian

from plugin.node.forced_end import graceful_s
from plugin.orthanc_api.script import PluginFiles
from tests.support.listener import associate_request, begin_store, pdu, read_pdu
from tests.support.node import MR_IMAGE_STORAGE, NodeInThread, make_instance, send, wait_until
from tests.support.node_process import NodeInProcess
from tests.support.paths import ROOT

DRAIN_S = 2.0
LATE_S = 6.0
"""What a busy machine may need beyond that to reap processes. Before services shared the time, HTTP alone took 7 s."""
TOKEN = "a-token-of-the-tests-alone"
HANGING_PLUGIN = """
import pathlib
import threading
import orthanc


def hang(*_, **__):
    (pathlib.Path(__file__).parent / "hangs").touch()
    threading.Event().wait()


orthanc.RegisterOnChangeCallback(hang)
orthanc.RegisterRestCallback("/hang", hang)
"""
MakeNode = Callable[..., NodeInThread]


@pytest.mark.parametrize(("drain_s", "services_s"), [(20, 15), (10, 5), (2, 1), (0.1, 0.05)])
def test_the_last_part_is_for_what_services_leave(drain_s: float, services_s: float) -> None:
    assert graceful_s(drain_s) == services_s


def opened(port: int, sent: bytes) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), timeout=20)
    made.sendall(sent)
    return made


def associated(port: int) -> socket.socket:
    made = opened(port, associate_request(sop_class=MR_IMAGE_STORAGE, syntax=ExplicitVRLittleEndian))
    assert read_pdu(made)[0] == 0x02, "accepted"
    return made


def ends_in_time(process: NodeInProcess) -> bool:
    """Send SIGTERM and wait."""
    begun = time.monotonic()
    process.process.send_signal(signal.SIGTERM)
    process.process.wait(60)
    return time.monotonic() - begun < DRAIN_S + LATE_S


def test_a_node_ends_although_nobody_else_does(make_node: MakeNode, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "plugin.py").write_text(HANGING_PLUGIN)
    with closing(socket.create_server(("127.0.0.1", 0))) as pacs, ExitStack() as stack:
        destination = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": pacs.getsockname()[1]}
        node = make_node(shutdown={"drain_s": DRAIN_S})
        node.plugin = PluginFiles(tmp_path / "plugin.py")
        http = {"enabled": True, "port": 0, "token_file": str(tmp_path / "token")}
        process = NodeInProcess(node, tmp_path, http=http, destinations=[destination])
        stack.callback(process.process.kill)
        studies = [[make_instance(study, number=number) for number in (1, 2, 3)] for study in ("1.2", "1.3")]
        assert send(process.port, *studies[0]) == [0x0000] * 3
        pacs.settimeout(60)
        stack.enter_context(pacs.accept()[0])  # and says nothing
        (node.controls / "hold").touch()
        assert send(process.port, *studies[1]) == [0x0000] * 3
        wait_until(lambda: node.run_count() == 2, "a job is running")
        sender = stack.enter_context(associated(process.port))
        late = make_instance("1.4")
        sender.sendall(begin_store(late) + pdu(0x04, struct.pack(">LBB", 5002, 1, 0) + bytes(5000)))
        stack.enter_context(associated(process.port))
        stack.enter_context(opened(process.port, b""))
        port = urlsplit(process.node.http_url).port or 0
        request = f"GET /hang HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
        for sent in (request, request[:10], b""):
            stack.enter_context(opened(port, sent))
        wait_until((tmp_path / "hangs").exists, "the plugin hangs")
        assert ends_in_time(process)
        assert "Traceback" not in process.log.read_text()
        assert read_pdu(sender)[:1] in (b"", b"\x07"), "what is on its way is not acknowledged"
        kept = {path.stem for path in (process.data_dir / "archive").rglob("*.dcm")}
        assert kept == {str(each.SOPInstanceUID) for study in studies for each in study}


def test_a_node_ends_although_its_database_hangs(make_node: MakeNode, tmp_path: Path) -> None:
    process = NodeInProcess(make_node(shutdown={"drain_s": DRAIN_S}), tmp_path)
    servers = [pid for pid, name in process.descendants().items() if name == "postgres"]
    assert servers
    try:
        for pid in servers:
            os.kill(pid, signal.SIGSTOP)
        assert ends_in_time(process)
    finally:
        process.process.kill()
        for pid in servers:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    assert "ended by force: 2 s after the signal (shutdown.drain_s) plugin/" in process.log.read_text()


HANGING_PROCESS = """
import logging, os, signal, sys, threading
from plugin.context import ShutdownDeadline
from plugin.node.forced_end import forced_end
from plugin.node.services import stopped_by_signals

logging.basicConfig()
never, stop = threading.Event(), threading.Event()
with forced_end(0.2), stopped_by_signals(stop, ShutdownDeadline(0.1)):
    os.kill(os.getpid(), signal.SIGTERM)
    stop.wait()
    if sys.argv[1] == "within":
        never.wait()
threading.Thread(target=never.wait, name="left-over").start()
"""


@pytest.mark.parametrize(("place", "status"), [("within", 1), ("after", 0)])
def test_what_hangs_is_left_behind(place: str, status: int) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", HANGING_PROCESS, place],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == status
    assert ("ended by force: 0.2 s after the signal (shutdown.drain_s)" in ended.stderr) is (status == 1)


def test_without_a_signal_nothing_is_ended() -> None:
    program = "from plugin.node.forced_end import forced_end\nwith forced_end(0.0): pass\nprint('done')"
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "done\n")
