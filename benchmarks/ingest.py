"""Compare receiving with DCMTK's storescp and Orthanc: instances per second, time to each response, processor time.

    python -m benchmarks.ingest [--instances 400] [--repeats 3] [--let-halt] [--json FILE]

MR images of 128 KiB are sent over 1 and over 8 associations. The sender is a few lines on a socket, so that it costs
little and is the same for all: PDUs encoded beforehand, each image sent after the response to the last, TCP_NODELAY on
both sides (for DCMTK and Orthanc by the variable of that name), PDUs as long as the receiver accepts, 128 KiB proposed
to each. Receivers take turns, each started anew on the same disk and given the time to come to rest. The node syncs
each image and the folder that names it before it responds: two waits for the disk where Orthanc, which syncs the image
alone, has one. storescp leaves that to the system and loses images when the power fails after its response; so it also
runs with a small library that syncs each file as it is closed (sync_at_close.c; needs a C compiler).

Processor time is that of all processes of the receiver (of the node with its database), user and system, an image; not
of storescp, whose processes end with their associations.
Processes of the lowest priority keep the processors busy, unless --let-halt is given: a virtual one that halts may hear
of the end of a sync only at its next tick, 4 ms later, and then the number of syncs decides alone. DCMTK and Orthanc
are Debian's; needs Linux with network namespaces. Goal: faster than both.
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian, MRImageStorage

from benchmarks.machine import describe_machine
from plugin.listener.c_store_messages import encode_pdu
from tests.support.hostile_dicom import encoded
from tests.support.listener import associate_request, pdu
from tests.support.programs import free_port, listens, node, orthanc, private_network, running, wait_for

PDU_BYTES = 131072
UID_ROOT, UID_DIGITS = "2.25.", 30
PLACEHOLDER = UID_ROOT + "9" * UID_DIGITS
COMPILER = shutil.which("cc")
PIXELS = 65000  # of two bytes: 128 KiB with the header
_AT_REST = 0.05
"""Of one processor: what a receiver takes that is at rest."""


@dataclass(frozen=True)
class Receiver:
    """A running receiver, and where it listens."""

    name: str
    ae_title: str
    port: int


@dataclass(frozen=True)
class Row:
    """The measurements of a receiver with a number of associations."""

    receiver: str
    associations: int
    per_second: tuple[float, ...]
    p50_ms: float
    p99_ms: float
    cpu_ms: float | None
    """Processor time of all its processes, an image; None of storescp."""


@dataclass(frozen=True)
class Sent:
    """What it took to send instances."""

    per_second: float
    waits_s: list[float]
    """For each response."""
    cpu_ms: float
    """Processor time of the receiver, an image."""


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--let-halt", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    programs = [shutil.which(name, path="/usr/bin:/usr/sbin") for name in ("storescp", "Orthanc")]
    if None in programs:
        sys.exit("DCMTK's storescp and Orthanc have to be installed: scripts/install-programs")
    os.environ["TCP_NODELAY"] = "1"
    image = encoded_image()
    found: dict[tuple[str, int], list[Sent]] = {}
    with nullcontext() if options.let_halt else busy_processors():
        private_network()  # only now, so that it holds this process and the receiver's
        for _ in range(options.repeats):
            for start in (run_glionode, run_synced_storescp, run_storescp, run_orthanc):
                if start is run_synced_storescp and COMPILER is None:
                    continue
                with tempfile.TemporaryDirectory() as folder, start(Path(folder), *programs) as receiver:
                    wait_for_rest()
                    for associations in (1, 8):
                        sent = send_all(receiver, image, associations, options.instances)
                        found.setdefault((receiver.name, associations), []).append(sent)
    rows = [
        Row(
            name,
            associations,
            tuple(sent.per_second for sent in found[name, associations]),
            *percentiles_ms([wait for sent in found[name, associations] for wait in sent.waits_s]),
            None if "storescp" in name else statistics.median(sent.cpu_ms for sent in found[name, associations]),
        )
        for associations in (1, 8)
        for name in dict.fromkeys(name for name, _ in found)
    ]
    print(f"{'':22}{'assoc.':>7}{'images/s':>10}{'lowest':>9}{'p50 ms':>9}{'p99 ms':>9}{'CPU ms':>9}{'ours : it':>11}")
    for row in rows:
        ours = next(each for each in rows if each.associations == row.associations)
        ratio = statistics.median(ours.per_second) / statistics.median(row.per_second)
        cpu = "-" if row.cpu_ms is None else f"{row.cpu_ms:.2f}"
        print(
            f"{row.receiver:22}{row.associations:7d}{statistics.median(row.per_second):10.0f}"
            f"{min(row.per_second):9.0f}{row.p50_ms:9.2f}{row.p99_ms:9.2f}{cpu:>9}{ratio:11.2f}"
        )
    if options.json:
        options.json.write_text(
            json.dumps({"machine": describe_machine(), "rows": [asdict(row) for row in rows]}) + "\n"
        )


def percentiles_ms(seconds: list[float]) -> tuple[float, float]:
    """Return the median and the 99th percentile, in milliseconds."""
    return float(np.percentile(seconds, 50) * 1000), float(np.percentile(seconds, 99) * 1000)


@contextmanager
def run_glionode(folder: Path, storescp_program: str, orthanc_program: str) -> Iterator[Receiver]:
    """Run a whole node, which waits for studies to be complete while it receives."""
    settings = folder / "glionode.toml"
    settings.write_text(
        f"[listener]\nport = 0\n[storage]\ndata_dir = {json.dumps(str(folder / 'data'))}\nminimum_free_mb = 10\n"
        "[study]\nstable_after_s = 3600\n"
    )
    with node(settings, folder / "data", folder / "node.log") as port:
        yield Receiver("glionode", "GLIONODE", port)


@contextmanager
def run_storescp(
    folder: Path,
    storescp_program: str,
    orthanc_program: str,
    name: str = "storescp, no sync",
    before: tuple[str, ...] = (),
) -> Iterator[Receiver]:
    """Run DCMTK's storescp, with a process for each association."""
    port = free_port()
    (folder / "received").mkdir()
    options = ["--fork", "--max-pdu", str(PDU_BYTES), "--output-directory", str(folder / "received")]
    with running([*before, storescp_program, *options, "--aetitle", "DCMTK", str(port)], folder / "log"):
        wait_for("storescp's start", lambda: listens(port), 30)
        yield Receiver(name, "DCMTK", port)


@contextmanager
def run_synced_storescp(folder: Path, storescp_program: str, orthanc_program: str) -> Iterator[Receiver]:
    """Run storescp with each file synced before the response."""
    library, source = folder / "sync_at_close.so", Path(__file__).with_name("sync_at_close.c")
    subprocess.run([str(COMPILER), "-shared", "-fPIC", "-O2", "-o", str(library), str(source)], check=True)
    before = ("env", f"LD_PRELOAD={library}")
    with run_storescp(folder, storescp_program, orthanc_program, "storescp, synced", before) as receiver:
        yield receiver


@contextmanager
def run_orthanc(folder: Path, storescp_program: str, orthanc_program: str) -> Iterator[Receiver]:
    """Run Orthanc with its defaults."""
    dicom_port = free_port()
    with orthanc(orthanc_program, folder / "orthanc", dicom_port, free_port()):
        yield Receiver("Orthanc", "ORTHANC", dicom_port)


@contextmanager
def busy_processors() -> Iterator[None]:
    """Keep the processors from halting by processes that run only where no other wants to."""
    program = (
        "import os\nparent = os.getppid()\nos.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\n"
        "while os.getppid() == parent:\n    sum(range(100000))\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def cpu_clocks() -> Counter[int]:
    """Return the processor time, user and system, of each other process in this one's network namespace, in ns."""
    namespace, clocks = Path("/proc/self/ns/net").readlink(), Counter[int]()
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and int(folder.name) != os.getpid():
            with suppress(OSError):  # it has ended, or is not ours to look at
                if (folder / "ns" / "net").readlink() == namespace:
                    clocks[int(folder.name)] = time.clock_gettime_ns(~int(folder.name) << 3 | 2)  # clock_getcpuclockid
    return clocks


def cpu_seconds_since(before: Counter[int]) -> float:
    """Return the processor time of the processes that there are now, in seconds, since their clocks were read."""
    return (cpu_clocks() - before).total() / 1e9


def wait_for_rest() -> None:
    """Return when the receiver does little: the node still loads its network when it listens already."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        before = cpu_clocks()
        time.sleep(1)
        if cpu_seconds_since(before) < _AT_REST:
            return
    raise TimeoutError("the receiver did not come to rest within 60 s")


def send_all(receiver: Receiver, image: bytes, associations: int, instances: int) -> Sent:
    """Send instances over parallel associations."""
    ready = threading.Barrier(associations + 1)
    each = -(-instances // associations)
    waits: list[list[float]] = [[] for _ in range(associations)]
    failures: list[BaseException] = []

    def send(number: int) -> None:
        try:
            with StoreAssociation(receiver) as sender:
                messages = [sender.message(image, new_uid()) for _ in range(each)]
                ready.wait()
                waits[number] = [sender.send(message) for message in messages]
        except BaseException as exc:  # noqa: BLE001 - raised by the waiting thread
            failures.append(exc)
            ready.abort()

    threads = [threading.Thread(target=send, args=(number,)) for number in range(associations)]
    for thread in threads:
        thread.start()
    started, before = 0.0, cpu_clocks()
    try:
        ready.wait()
        started = time.perf_counter()
    except threading.BrokenBarrierError:
        pass
    # An association ends when its sender is done: Orthanc has fewer threads, which also wait for those that are silent.
    for thread in threads:
        thread.join()
    seconds, cpu = time.perf_counter() - started, cpu_seconds_since(before)
    if failures:
        raise failures[0]
    sent = associations * each
    return Sent(sent / seconds, [wait for one in waits for wait in one], cpu * 1000 / sent)


class StoreAssociation:
    """An association over which MR images are stored (PS3.7 9.1.1, PS3.8 9.3)."""

    def __init__(self, receiver: Receiver, longest_pdu: int = PDU_BYTES) -> None:
        self.connection = socket.create_connection(("127.0.0.1", receiver.port), timeout=60)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream = self.connection.makefile("rb")
        titles = b"BENCHMARK", receiver.ae_title.encode()
        self.connection.sendall(associate_request(*titles, sop_class=MRImageStorage, longest_pdu=PDU_BYTES))
        kind, answer = self._read()
        if kind != 2:
            raise RuntimeError(f"{receiver.name} does not accept the association")
        place = answer.index(b"\x51\x00\x00\x04") + 4
        self._longest = min(struct.unpack(">L", answer[place : place + 4])[0] or longest_pdu, longest_pdu)

    def __enter__(self) -> "StoreAssociation":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.connection.sendall(pdu(5, bytes(4)))
        self._stream.close()
        self.connection.close()

    def message(self, image: bytes, uid: str) -> bytes:
        """Encode all PDUs of a C-STORE request for the image under another UID."""
        command = b"".join(
            element(tag, value)
            for tag, value in (
                (0x0002, MRImageStorage.encode()),
                (0x0100, struct.pack("<H", 1)),
                (0x0110, struct.pack("<H", 1)),
                (0x0700, struct.pack("<H", 0)),
                (0x0800, struct.pack("<H", 0)),
                (0x1000, uid.encode()),
            )
        )
        parts = [encode_pdu(1, b"\3" + element(0, struct.pack("<L", len(command))) + command)]
        data_set, step = image.replace(PLACEHOLDER.encode(), uid.encode()), self._longest - 6
        for start in range(0, len(data_set), step):
            control_header = b"\2" if start + step >= len(data_set) else b"\0"
            parts.append(encode_pdu(1, control_header + data_set[start : start + step]))
        return b"".join(parts)

    def send(self, message: bytes) -> float:
        """Send a request, read its response, return the seconds between. Raises RuntimeError if it was not stored."""
        started = time.perf_counter()
        self.write(message)
        kind, answer = self._read()
        seconds = time.perf_counter() - started
        status = answer.index(b"\x00\x00\x00\x09\x02\x00\x00\x00") + 8  # (0000,0900)
        if kind != 4 or answer[status : status + 2] != b"\0\0":
            raise RuntimeError("an image was not stored")
        return seconds

    def write(self, message: bytes) -> None:
        """Write the PDUs of a message, all at once."""
        self.connection.sendall(message)

    def _read(self) -> tuple[int, bytes]:
        kind, length = struct.unpack(">BxL", self._stream.read(6))
        return kind, self._stream.read(length)


def element(number: int, value: bytes) -> bytes:
    """Encode an element of a command set: group 0000, implicit little endian."""
    padded = value + b"\0" * (len(value) % 2)
    return struct.pack("<HHL", 0, number, len(padded)) + padded


def new_uid() -> str:
    """Return a UID as long as the placeholder."""
    return UID_ROOT + "1" + "".join(str(byte % 10) for byte in os.urandom(UID_DIGITS - 1))


def encoded_image(pixels: int = PIXELS) -> bytes:
    """Encode an MR image (by default 128 KiB), implicit little endian, with the placeholder as its SOP Instance UID."""
    image = Dataset()
    image.SOPClassUID, image.SOPInstanceUID = MRImageStorage, PLACEHOLDER
    image.StudyInstanceUID, image.SeriesInstanceUID = new_uid(), new_uid()
    image.PatientID, image.PatientName, image.Modality = "BENCHMARK", "BENCHMARK", "MR"
    image.Rows, image.Columns, image.BitsAllocated, image.BitsStored, image.HighBit = 250, pixels // 250, 16, 16, 15
    image.SamplesPerPixel, image.PixelRepresentation, image.PhotometricInterpretation = 1, 0, "MONOCHROME2"
    image.PixelData = np.random.default_rng(0).integers(0, 4096, pixels, dtype=np.uint16).tobytes()
    return encoded(image, ImplicitVRLittleEndian)


if __name__ == "__main__":
    main()
