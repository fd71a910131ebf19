"""A node on a small disk that fills, to its floor and to its last byte, and is freed. Prints what was seen as JSON.

Run as a program, by root: walk_with_full_disk.py. The disk is a tmpfs in a mount namespace of the program's own, so
nobody else sees it and it is gone with the program. The segmenter is a stand-in.
"""

import contextlib
import ctypes
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from plugin.settings.sections import Settings
from tests.support.node import NodeInThread, Pacs, make_instance, new_study_uid, send, wait_until, write_model

DISK_MIB, FLOOR_MIB = 224, 40
_CLONE_NEWNS = 0x20000


def main(work: Path) -> None:
    """Fill, look, free, look."""
    disk = own_disk(work / "disk")
    pacs = Pacs()
    node = small_node(work, disk, pacs)
    seen: dict[str, object] = {}
    node.start()
    try:
        before, held = [new_study_uid() for _ in range(2)]
        seen["received"] = receive(node, before)
        wait_until(lambda: node.jobs_are(segmented=1), "the first study is segmented")
        (node.controls / "hold").touch()
        seen["held"] = receive(node, held)
        wait_until(lambda: node.jobs_are(segmented=1, running=1), "the second is at work")

        fill(disk / "fill", leave=(FLOOR_MIB - 4) << 20)
        low = new_study_uid()
        seen["below the floor"] = receive(node, low)
        status = node.status()
        seen["said"] = [status.receiving, status.free_mb < FLOOR_MIB, status.database_answers, status.jobs]

        (node.controls / "fail").touch()  # as a segmenter does that cannot write
        (node.controls / "hold").unlink()
        wait_until(lambda: node.jobs_are(segmented=1, queued=1), "its job waits for room")
        wait_until(lambda: len(node.status().troubles) == 1, "and it is said")
        seen["waits because"] = node.status().troubles[0].message.partition(" MiB ")[2]
        (node.controls / "fail").unlink()

        fill(disk / "more", leave=0)
        seen["full"] = receive(node, low)
        for name in ("fill", "more"):
            (disk / name).unlink()
        wait_until(lambda: node.status().receiving, "it receives again")
        seen["freed"] = receive(node, low)
        wait_until(lambda: node.jobs_are(segmented=3), "all three are segmented")
        wait_until(lambda: len(pacs.received) >= 6, "all results are at the PACS")
        seen["at the PACS"] = len(set(pacs.received)) == len(pacs.received) == 6
        seen["troubles"] = [each.place for each in node.status().troubles]
    finally:
        node.end()
        pacs.stop()
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
    sys.stdout.write(json.dumps(seen))


def own_disk(folder: Path) -> Path:
    """Mount a small disk that this process and its children alone see. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() != 0 or libc.unshare(_CLONE_NEWNS):
        raise OSError("no mount namespace may be made here")
    folder.mkdir()
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(folder)], check=True)
    return folder


def small_node(work: Path, disk: Path, pacs: Pacs) -> NodeInThread:
    """A node whose data folder is on the disk, and nothing else of it."""
    (work / "controls").mkdir()
    write_model(work / "models" / "stand-in")
    settings = Settings(
        listener={"port": 0},
        storage={"data_dir": str(disk / "data"), "minimum_free_mb": FLOOR_MIB},
        study={"stable_after_s": 0.3},
        model={"name": "stand-in", "installed_dir": str(work / "models")},
        delivery={"retry_first_s": 0.2, "retry_longest_s": 0.5, "timeout_s": 10},
        shutdown={"drain_s": 10},
        destinations=[pacs.destination()],
    )
    return NodeInThread(settings, work / "controls")


def receive(node: NodeInThread, study: str) -> list[str]:
    """The statuses with which three images of a study are answered."""
    return [f"{status:04X}" for status in send(node.port, *(make_instance(study, number=n) for n in range(3)))]


def fill(path: Path, leave: int) -> None:
    """Write until so many bytes are free."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while (free := free_bytes(path)) > leave:
            file.write(bytes(min(1 << 20, max(4096, free - leave))))


def free_bytes(path: Path) -> int:
    """Of the disk that a file lies on."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


if __name__ == "__main__":
    os.environ.pop("GLIONODE_CONFIG", None)
    with tempfile.TemporaryDirectory(prefix="gn-", dir="/dev/shm") as name:
        main(Path(name))
