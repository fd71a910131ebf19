"""Real peers for the end-to-end walks: a node, DCMTK's storescp and Orthanc, each a process of its own on loopback.

Debian's Orthanc opens its DICOM port on every interface, so a walk runs in a network namespace of its own, see
`private_network`.
"""

import ctypes
import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

SERVICE = (sys.executable, "-m", "tests.support.service")
"""`glionode serve` and its parts with a stand-in for the segmenter; started in the root of the checkout."""
GLIONODE = (sys.executable, "-c", "from plugin.commands.app import main; main()")
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_T = TypeVar("_T")
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 0x1


def private_network() -> None:
    """Move this process into a network namespace of its own in which only loopback is up. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    flags = _CLONE_NEWNET if os.geteuid() == 0 else _CLONE_NEWNET | _CLONE_NEWUSER
    if libc.unshare(flags):
        raise OSError(ctypes.get_errno(), "no network namespace may be made here")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh", b"lo", _IFF_UP))


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: str, look: Callable[[], _T | None], limit_s: float) -> _T:
    """The first answer of `look` that is not None. Raises TimeoutError naming `what`."""
    deadline = time.monotonic() + limit_s
    while True:
        answer = look()
        if answer is not None:
            return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen within {limit_s:.0f} s")
        time.sleep(0.2)


@contextmanager
def running(command: list[str], log: Path, end_s: float = 60) -> Iterator[subprocess.Popen[bytes]]:
    """A process for as long as the block runs; ended by SIGTERM, its output in `log`."""
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(end_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def listens(port: int) -> bool | None:
    """True where something takes connections on a port of loopback, None where not."""
    with socket.socket() as probe:
        return True if probe.connect_ex(("127.0.0.1", port)) == 0 else None


@contextmanager
def storescp(program: str, folder: Path, port: int) -> Iterator[None]:
    """DCMTK's storescp, storing what it receives in `folder`."""
    folder.mkdir()
    command = [program, "--aetitle", "DCMTK", "--output-directory", str(folder), str(port)]
    with running(command, folder.parent / "storescp.log"):
        wait_for("storescp's start", lambda: listens(port), 30)
        yield


@contextmanager
def orthanc(
    program: str,
    folder: Path,
    dicom_port: int,
    http_port: int,
    plugins: tuple[str, ...] = (),
    **more: object,
) -> Iterator[None]:
    """A plain Orthanc with its storage in `folder`, the plugins whose libraries are given, and more settings."""
    folder.mkdir()
    settings = folder / "orthanc.json"
    settings.write_text(
        json.dumps(
            {
                "StorageDirectory": str(folder / "storage"),
                "IndexDirectory": str(folder / "storage"),
                "DicomAet": "ORTHANC",
                "DicomPort": dicom_port,
                "HttpPort": http_port,
                "RemoteAccessAllowed": False,
                "AuthenticationEnabled": False,
                "Plugins": list(plugins),
                **more,
            }
        )
    )
    with running([program, str(settings)], folder.parent / "orthanc.log"):
        wait_for("Orthanc's start", lambda: listens(http_port), 60)
        yield


def orthanc_get(http_port: int, path: str) -> bytes:
    """A GET of Orthanc's REST API."""
    with urllib.request.urlopen(f"http://127.0.0.1:{http_port}{path}", timeout=30) as answer:
        return bytes(answer.read())


def orthanc_post(http_port: int, path: str, body: bytes) -> Any:
    """A POST to Orthanc's REST API."""
    request = urllib.request.Request(f"http://127.0.0.1:{http_port}{path}", data=body, method="POST")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


def orthanc_instances(http_port: int) -> list[Any]:
    """Identifiers of the instances that Orthanc holds."""
    try:
        return list(json.loads(orthanc_get(http_port, "/instances")))
    except urllib.error.URLError:
        return []


@contextmanager
def node(settings: Path, data_dir: Path, log: Path) -> Iterator[int]:
    """`glionode serve` with a settings file; gives the port that it listens on."""
    with running([*GLIONODE, "serve", "--config", str(settings)], log) as process:
        note = data_dir / "serve.json"

        def port() -> int | None:
            if process.poll() is not None:
                raise RuntimeError(f"glionode serve ended with {process.returncode}:\n{log.read_text()}")
            try:
                return int(json.loads(note.read_text())["port"])
            except (OSError, ValueError):
                return None

        yield wait_for("the node's start", port, 120)
