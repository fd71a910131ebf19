"""Measure how long a sender with Nagle's algorithm waits for each response of the node.

    python -m benchmarks.acknowledge [--instances 100] [--json FILE]

Most senders write PDUs of 16 KiB one by one and leave Nagle's algorithm on (RFC 896): a short segment waits until the
node acknowledges what came before it, for 40 ms where the node's kernel delays that (RFC 1122 4.2.3.2). Two senders
take turns with images of 50 KB to one node; one has TCP_NODELAY. Goal: a ratio of at most 2.
"""

import argparse
import json
import socket
import struct
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.ingest import StoreAssociation, encoded_image, new_uid, run_glionode
from benchmarks.machine import describe_machine
from tests.support.programs import private_network

_PDU_BYTES = 16384  # DCMTK's default
_PIXELS = 25000  # of two bytes
_PDU_HEADER_BYTES = 6


@dataclass(frozen=True)
class Row:
    """The times to each response for one way of sending."""

    sender: str
    p50_ms: float
    p99_ms: float


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=100)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    private_network()
    image = encoded_image(_PIXELS)
    with tempfile.TemporaryDirectory() as folder, run_glionode(Path(folder), "", "") as receiver:
        waits: dict[str, list[float]] = {"TCP_NODELAY": [], "Nagle's algorithm": []}
        with ApartWriting(receiver, _PDU_BYTES) as prompt, ApartWriting(receiver, _PDU_BYTES) as delaying:
            delaying.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
            for _ in range(options.instances):
                for sender, found in zip((prompt, delaying), waits.values(), strict=True):
                    found.append(sender.send(sender.message(image, new_uid())) * 1000)
    rows = [Row(name, *np.percentile(found, (50, 99))) for name, found in waits.items()]
    print(f"{'':20}{'p50 ms':>9}{'p99 ms':>9}{'ratio':>9}")
    for row in rows:
        print(f"{row.sender:20}{row.p50_ms:9.2f}{row.p99_ms:9.2f}{row.p50_ms / rows[0].p50_ms:9.2f}")
    if options.json:
        report = {"machine": describe_machine(), "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(report) + "\n")


class ApartWriting(StoreAssociation):
    """A sender that writes the header of each PDU and its content with a call each, as DCMTK does."""

    def __enter__(self) -> "ApartWriting":
        return self

    def write(self, message: bytes) -> None:
        """Write the PDUs of a message."""
        start = 0
        while start < len(message):
            content = start + _PDU_HEADER_BYTES
            end = content + struct.unpack_from(">xxL", message, start)[0]
            self.connection.sendall(message[start:content])
            self.connection.sendall(message[content:end])
            start = end


if __name__ == "__main__":
    main()
