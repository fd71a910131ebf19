"""Run real peers for the end-to-end walks: a node, DCMTK's storescp and Orthanc, each a process on loopback.

Debian's Orthanc opens its DICOM port on every interface, so a walk first calls `private_network`.
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
"""`glionode serve` and its parts with the stand-in segmenter; runs in the root of the checkout."""
GLIONODE = (sys.executable, "-c", "from plugin.commands.app import main; main()")
_CLONE_NEWNS, _CLONE_NEWUSER, _CLONE_NEWNET = 0x20000, 0x10000000, 0x40000000
_T = TypeVar("_T")
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 0x1


def clear_settings() -> None:
    """Remove glionode's settings from this process's environment."""
    for name in [name for name in os.environ if name.startswith("GLIONODE_")]:
        del os.environ[name]


def private_network() -> None:
    """Move this process into a network namespace of its own with only loopback up. Raises OSError if that fails."""
    _unshare(_CLONE_NEWNET if os.geteuid() == 0 else _CLONE_NEWNET | _CLONE_NEWUSER, "network")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh", b"lo", _IFF_UP))


def private_mounts() -> None:
    """Move this process into a mount namespace of its own, which ends with it. Raises OSError if that fails."""
    _unshare(_CLONE_NEWNS, "mount")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)


def _unshare(flags: int, kind: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags):
        raise OSError(ctypes.get_errno(), f"no {kind} namespace may be made here")


def free_port() -> int:
    """Return a free port of loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: str, poll: Callable[[], _T | None], limit_s: float) -> _T:
    """Call `poll` until its result is true, and return it. Raises TimeoutError, which names `what`."""
    deadline = time.monotonic() + limit_s
    while True:
        if result := poll():
            return result
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen within {limit_s:.0f} s")
        time.sleep(0.2)


@contextmanager
def running(command: list[str], log: Path, end_s: float = 60) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process during the block, with its output in `log`; SIGTERM ends it, SIGKILL after `end_s`."""
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


def child_pids(pid: int) -> list[int]:
    """Return the ids of the child processes of a process; empty if it has ended."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, path.read_text().split())
        except OSError:  # the thread or the process has ended
            continue
    return found


def memory_mib(pid: int, key: str) -> float:
    """Return the memory of a process now ("VmRSS") or at its peak ("VmHWM"), in MiB; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{key}:"))


def listens(port: int) -> bool:
    """Return whether something accepts connections on a port of loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def storescp(program: str, folder: Path, port: int, *options: str) -> Iterator[None]:
    """Run DCMTK's storescp, which stores what it receives in `folder`."""
    folder.mkdir()
    command = [program, "--aetitle", "DCMTK", *options, "--output-directory", str(folder), str(port)]
    with running(command, folder.parent / "storescp.log"):
        wait_for("storescp's start", lambda: listens(port), 30)
        yield


@contextmanager
def orthanc(
    program: str,
    folder: Path,
    dicom_port: int,
    http_port: int,
    plugins: tuple[Path, ...] = (),
    **settings: object,
) -> Iterator[None]:
    """Run an Orthanc with its storage in `folder`, the libraries of `plugins` and further settings."""
    folder.mkdir()
    configuration = folder / "orthanc.json"
    configuration.write_text(
        json.dumps(
            {
                "StorageDirectory": str(folder / "storage"),
                "IndexDirectory": str(folder / "storage"),
                "DicomAet": "ORTHANC",
                "DicomPort": dicom_port,
                "HttpPort": http_port,
                "RemoteAccessAllowed": False,
                "AuthenticationEnabled": False,
                "Plugins": list(map(str, plugins)),
                **settings,
            }
        )
    )
    with running([program, str(configuration)], folder.parent / "orthanc.log"):
        wait_for("Orthanc's start", lambda: listens(http_port), 60)
        yield


def orthanc_get(http_port: int, path: str) -> bytes:
    """Return the response to a GET of Orthanc's REST API."""
    with urllib.request.urlopen(f"http://127.0.0.1:{http_port}{path}", timeout=30) as response:
        return bytes(response.read())


def orthanc_post(http_port: int, path: str, body: bytes) -> Any:
    """Return the response to a POST to Orthanc's REST API, parsed from JSON."""
    request = urllib.request.Request(f"http://127.0.0.1:{http_port}{path}", data=body, method="POST")
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.loads(response.read())


def orthanc_instances(http_port: int) -> list[Any]:
    """Return Orthanc's identifiers of the instances that it holds; empty while it does not respond."""
    try:
        return list(json.loads(orthanc_get(http_port, "/instances")))
    except urllib.error.URLError:
        return []


@contextmanager
def node(settings: Path, data_dir: Path, log: Path) -> Iterator[int]:
    """Run `glionode serve` with a settings file; yields the port of its listener."""
    with running([*GLIONODE, "serve", "--config", str(settings)], log) as process:

        def read_port() -> int | None:
            if process.poll() is not None:
                raise RuntimeError(f"glionode serve ended with {process.returncode}:\n{log.read_text()}")
            try:
                return int(json.loads((data_dir / "serve.json").read_text())["port"])
            except (OSError, ValueError):
                return None

        yield wait_for("the node's start", read_port, 120)
