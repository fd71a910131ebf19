"""Fill the small disk of a node to its minimum and to the last byte, and free it. Prints JSON.

    python -m tests.end_to_end.walk_with_full_disk

It needs root. The disk is a tmpfs in a mount namespace of the process, so no other process sees it and it ends with
this one. The node uses the stand-in segmenter.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.node import NodeInThread, Pacs, make_instance, new_study_uid, send, stand_in_node, wait_until
from tests.support.programs import clear_settings, private_mounts

DISK_MIB, MINIMUM_MIB = 224, 40


def main(work: Path) -> None:
    """Run the walk and print what was observed."""
    disk = mount_disk(work / "disk")
    pacs = Pacs()
    storage = {"data_dir": str(disk / "data"), "minimum_free_mb": MINIMUM_MIB}
    node = stand_in_node(work, storage=storage, destinations=[pacs.destination()])
    observed: dict[str, object] = {}
    node.start()
    try:
        before, held = [new_study_uid() for _ in range(2)]
        observed["received"] = receive(node, before)
        wait_until(lambda: node.jobs_are(segmented=1), "the first study is segmented")
        (node.controls / "hold").touch()
        observed["held"] = receive(node, held)
        wait_until(lambda: node.jobs_are(segmented=1, running=1), "the second study's job runs")

        fill(disk / "fill", leave=(MINIMUM_MIB - 4) << 20)
        low = new_study_uid()
        observed["below the minimum"] = receive(node, low)
        status = node.status()
        observed["status"] = [status.receiving, status.free_mb < MINIMUM_MIB, status.database_answers, status.jobs]

        (node.controls / "fail").touch()  # as a segmenter does that has no room for its results
        (node.controls / "hold").unlink()
        wait_until(lambda: node.jobs_are(segmented=1, queued=1), "its job is queued again")
        wait_until(lambda: len(node.status().troubles) == 1, "the status names the reason")
        observed["trouble"] = node.status().troubles[0].message.partition(" MiB ")[2]
        (node.controls / "fail").unlink()

        fill(disk / "more", leave=0)
        observed["full"] = receive(node, low)
        for name in ("fill", "more"):
            (disk / name).unlink()
        wait_until(lambda: node.status().receiving, "the node receives again")
        observed["freed"] = receive(node, low)
        wait_until(lambda: node.jobs_are(segmented=3), "all three are segmented")
        wait_until(lambda: len(pacs.received) >= 6, "all results are at the PACS")
        observed["at the PACS"] = len(set(pacs.received)) == len(pacs.received) == 6
        observed["troubles"] = [each.place for each in node.status().troubles]
    finally:
        node.end()
        pacs.stop()
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
    sys.stdout.write(json.dumps(observed))


def mount_disk(folder: Path) -> Path:
    """Mount a small disk that only this process and its children see. Raises OSError if that is not allowed."""
    private_mounts()
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(folder)], check=True)
    return folder


def receive(node: NodeInThread, study: str) -> list[str]:
    """Send three images of a study; return the statuses of the responses."""
    return [f"{status:04X}" for status in send(node.port, *(make_instance(study, number=n) for n in range(3)))]


def fill(path: Path, leave: int) -> None:
    """Write until only `leave` bytes are free."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while (free := free_bytes(path)) > leave:
            file.write(bytes(min(1 << 20, max(4096, free - leave))))


def free_bytes(path: Path) -> int:
    """Return the free bytes of the disk with this file."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


if __name__ == "__main__":
    clear_settings()
    with tempfile.TemporaryDirectory(prefix="gn-", dir="/dev/shm") as name:
        main(Path(name))
