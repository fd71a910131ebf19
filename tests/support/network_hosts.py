"""Hosts for the end-to-end walks: namespaces made with `ip netns`, joined by a bridge, each with a disk of its own.

All of it lies in namespaces of the walk's process, so that nothing is left of it when that has ended, however it ends.
"""

import ctypes
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.programs import private_network

_CLONE_NEWNS = 0x20000
_NETWORK = "10.77.0"
_BRIDGE = "br0"


class Hosts:
    """The hosts of a walk. `disk` is the folder in which each process of a host sees a disk that no other one sees."""

    def __init__(self, disk: Path) -> None:
        """Raises OSError where no namespaces may be made."""
        self._disk = disk
        disk.mkdir()
        private_network()
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNS):
            raise OSError(ctypes.get_errno(), "no network namespace may be made here")
        _run("mount", "--make-rprivate", "/")
        Path("/run/netns").mkdir(exist_ok=True)
        _run("mount", "-t", "tmpfs", "tmpfs", "/run/netns")  # where `ip netns` keeps names: ours alone
        _run("ip", "link", "add", _BRIDGE, "type", "bridge")
        _run("ip", "link", "set", _BRIDGE, "up")
        self._count = 0

    def add(self, name: str) -> str:
        """A host; gives its address."""
        self._count += 1
        address, ours = f"{_NETWORK}.{self._count}", f"to-{name}"
        _run("ip", "netns", "add", name)
        _run("ip", "link", "add", ours, "type", "veth", "peer", "name", "eth0", "netns", name)
        _run("ip", "link", "set", ours, "master", _BRIDGE, "up")
        for command in (
            ("addr", "add", f"{address}/24", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("link", "set", "lo", "up"),
        ):
            _run("ip", "-n", name, *command)
        return address

    def on(self, name: str, *command: str) -> list[str]:
        """A command as it is run on a host, its disk empty. The process that it becomes is the command's own."""
        alone = f'mount -t tmpfs -o size=512m tmpfs {self._disk} && exec "$@"'
        return ["ip", "netns", "exec", name, "unshare", "--mount", "sh", "-c", alone, "sh", *command]


@contextmanager
def postgresql(hosts: Hosts, host: str, address: str, programs: Path, folder: Path) -> Iterator[str]:
    """A PostgreSQL of the system's package on a host, with its files in `folder`; gives its URL."""
    folder.mkdir(mode=0o755)
    as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--"]
    password = folder / "password"
    password.write_text("of-the-walk")
    for path in (folder, password):
        _run("chown", "postgres:postgres", str(path))
    cluster, log = folder / "cluster", folder / "log"
    made = ["--auth=scram-sha-256", f"--pwfile={password}", "--encoding=UTF8", "--locale=C", "-D", str(cluster)]
    _run(*as_postgres, str(programs / "initdb"), *made)
    with (cluster / "pg_hba.conf").open("a") as access:
        access.write(f"host all all {_NETWORK}.0/24 scram-sha-256\n")
    options = ["-c", f"listen_addresses={address}", "-k", str(folder), "-c", "fsync=off"]
    command = hosts.on(host, *as_postgres, str(programs / "postgres"), "-D", str(cluster), *options)
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield f"postgresql://postgres:of-the-walk@{address}/postgres"
    finally:
        process.send_signal(signal.SIGINT)  # does not wait for those who are connected
        process.wait(30)


def parent_of(pid: int) -> int:
    """The process that started another."""
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
