"""Hosts for the end-to-end walks: network namespaces joined by a bridge, each with a disk of its own.

Everything lies in namespaces of the walk's process, so nothing is left when the process ends, however it ends.
"""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.programs import private_mounts, private_network

_NETWORK = "10.77.0"
_BRIDGE = "br0"


class Hosts:
    """The hosts of a walk. Each process on a host sees a disk of its own in the folder `disk`."""

    def __init__(self, disk: Path) -> None:
        """Make the bridge. Raises OSError where the system allows no namespaces."""
        self._disk = disk
        disk.mkdir()
        private_network()
        private_mounts()
        Path("/run/netns").mkdir(exist_ok=True)
        _run("mount", "-t", "tmpfs", "tmpfs", "/run/netns")  # where `ip netns` keeps names
        _run("ip", "link", "add", _BRIDGE, "type", "bridge")
        _run("ip", "link", "set", _BRIDGE, "up")
        self._count = 0

    def add(self, name: str) -> str:
        """Add a host, and return its IP address."""
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

    def vanish(self, name: str) -> None:
        """Drop all packets from and to a host; its connections are not closed."""
        _run("ip", "link", "set", f"to-{name}", "nomaster")

    def come_back(self, name: str) -> None:
        """Let a host that vanished reach the others again."""
        _run("ip", "link", "set", f"to-{name}", "master", _BRIDGE)

    def on(self, name: str, *command: str) -> list[str]:
        """Return the command line that runs a command on a host with an empty disk, in the process that is started."""
        mounted = f'mount -t tmpfs -o size=512m tmpfs {self._disk} && exec "$@"'
        return ["ip", "netns", "exec", name, "unshare", "--mount", "sh", "-c", mounted, "sh", *command]


@contextmanager
def postgresql(hosts: Hosts, host: str, address: str, programs: Path, folder: Path) -> Iterator[str]:
    """Run the system's PostgreSQL on a host, with its files in `folder`; yields its URL."""
    folder.mkdir(mode=0o755)
    as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--"]
    password = folder / "password"
    password.write_text("of-the-walk")
    for path in (folder, password):
        _run("chown", "postgres:postgres", str(path))
    cluster, log = folder / "cluster", folder / "log"
    options = ["--auth=scram-sha-256", f"--pwfile={password}", "--encoding=UTF8", "--locale=C", "-D", str(cluster)]
    _run(*as_postgres, str(programs / "initdb"), *options)
    with (cluster / "pg_hba.conf").open("a") as access:
        access.write(f"host all all {_NETWORK}.0/24 scram-sha-256\n")
    options = ["-c", f"listen_addresses={address}", "-k", str(folder), "-c", "fsync=off"]
    command = hosts.on(host, *as_postgres, str(programs / "postgres"), "-D", str(cluster), *options)
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield f"postgresql://postgres:of-the-walk@{address}/postgres"
    finally:
        process.send_signal(signal.SIGINT)  # a fast shutdown: it does not wait for clients to disconnect
        process.wait(30)


def parent_of(pid: int) -> int:
    """Return the id of the parent of a process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
