"""Objects that are almost DICOM: valid ones in several transfer syntaxes, then damaged at random."""

import random
import socket
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from plugin.dimse.pynetdicom_internals import ApplicationEntity
from tests.support.listener import send_bytes
from tests.support.node import make_instance

SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
_LENGTHS = (0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFC, 0x80000000, 0x7FFFFFFF, 0, 1, 0x0000FFFF)
_VRS = (b"SQ", b"UN", b"OB", b"UI", b"XX", b"\0\0", b"UT")


@dataclass(frozen=True)
class Mutated:
    """The data set of a C-STORE, damaged."""

    study_instance_uid: str
    """The UIDs before the damage."""
    sop_instance_uid: str
    syntax: str
    content: bytes


def encoded(instance: Dataset, syntax: str) -> bytes:
    """Encode a data set in a transfer syntax."""
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = syntax == ImplicitVRLittleEndian
    buffer.is_little_endian = syntax != ExplicitVRBigEndian
    write_dataset(buffer, Dataset(instance))
    return deflated(buffer.getvalue()) if syntax == DeflatedExplicitVRLittleEndian else buffer.getvalue()


def deflated(content: bytes) -> bytes:
    """Compress bytes by raw deflate (PS3.5 A.5)."""
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflate.compress(content) + deflate.flush()


def bomb(instance: Dataset, mebibytes: int) -> bytes:
    """Return a deflated data set that is valid up to its pixels, which inflate to so many MiB."""
    del instance.PixelData
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    parts = [deflate.compress(encoded(instance, ExplicitVRLittleEndian))]
    parts.append(deflate.compress(struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, mebibytes << 20)))
    parts += [deflate.compress(bytes(1 << 20)) for _ in range(mebibytes)]
    return b"".join([*parts, deflate.flush()])


def mutated(count: int, studies: int, seed: int) -> Iterator[Mutated]:
    """Yield `count` damaged objects of so many studies; the same ones for the same seed."""
    chance = random.Random(seed)
    uids = [f"1.2.826.0.1.3680043.8.498.{chance.randrange(10**20)}" for _ in range(studies)]
    for number in range(count):
        instance, syntax = make_instance(uids[number % studies], number=number), SYNTAXES[number % len(SYNTAXES)]
        instance.SOPInstanceUID = f"{instance.StudyInstanceUID}.{number}"
        for reference in instance.ReferencedStudySequence:
            reference.StudyInstanceUID, reference.SeriesInstanceUID = "1.2.3", "1.2.3.4"  # else they are random
        if syntax == DeflatedExplicitVRLittleEndian and chance.random() < 0.5:
            content = deflated(_damaged(encoded(instance, ExplicitVRLittleEndian), chance))
        else:
            content = _damaged(encoded(instance, syntax), chance)
        yield Mutated(instance.StudyInstanceUID, instance.SOPInstanceUID, syntax, content)


def _damaged(content: bytes, chance: random.Random) -> bytes:
    """Damage bytes in one to four places; in every second object behind the UIDs, so that the listener stores it."""
    damaged = bytearray(content)
    first = chance.choice((1, len(content) * 2 // 3))  # never 0: pynetdicom does not send an empty data set
    for _ in range(chance.randint(1, 4)):
        place = chance.randint(min(first, len(damaged)), len(damaged))
        match chance.randrange(7):
            case 0:
                damaged[place : place + 1] = bytes([chance.randrange(256)])
            case 1:
                damaged[place : place + 4] = struct.pack(chance.choice("<>") + "L", chance.choice(_LENGTHS))
            case 2:
                del damaged[place : place + chance.randint(1, 40)]
            case 3:
                damaged[place:place] = chance.randbytes(chance.randint(1, 40))
            case 4:
                del damaged[place:]
            case 5:
                damaged[place : place + 2] = chance.choice(_VRS)
            case 6:
                damaged[place:place] = damaged[place : place + chance.randint(1, 400)] * chance.randint(1, 20)
    return bytes(damaged)


def send_all(port: int, objects: Iterable[Mutated]) -> Counter[int]:
    """Send objects in order, over one association per transfer syntax; count the statuses of the responses."""
    peers = {}
    for syntax in SYNTAXES:
        ae = ApplicationEntity("SENDER")
        ae.add_requested_context("1.2.840.10008.5.1.4.1.1.4", syntax)
        peers[syntax] = ae.associate("127.0.0.1", port, ae_title="GLIONODE")
        # With Nagle's algorithm the data set would wait for the acknowledgement of its command (40 ms).
        peers[syntax].dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    statuses = Counter(send_bytes(peers[each.syntax], each.sop_instance_uid, each.content).Status for each in objects)
    for peer in peers.values():
        peer.release()
    return statuses
