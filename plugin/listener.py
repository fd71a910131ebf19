"""The DICOM listener: C-ECHO and C-STORE of every storage class in every transfer syntax, kept exactly as it came.

Knows the archive and nothing of jobs. A data set is never decoded beyond the three UIDs that name its file, and nothing
of it but UIDs is ever logged.
"""

import logging
import socket
import struct
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO

from pydicom import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian
from pynetdicom import AE, _config, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined, unused-ignore]

from plugin.archive import Archive, InstanceKey, NoRoom, Stored, WrongUid, is_uid
from plugin.file_meta import encode_file_meta
from plugin.settings import ListenerSettings

_LOG = logging.getLogger(__name__)

# C-STORE statuses, PS3.4 table B.2-1: A7xx out of resources, Cxxx cannot understand. The last digits are ours.
SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
NOT_A_DATA_SET = 0xC001
UNUSABLE_UID = 0xC002
OTHER_UID_IN_COMMAND = 0xC003
OTHER_BYTES_UNDER_THIS_UID = 0xC004

_SOP_UID, _STUDY_UID, _SERIES_UID = 0x00080018, 0x0020000D, 0x0020000E
_ITEM_GROUP, _ITEM = 0xFFFE, 0xE000
_UNDEFINED_LENGTH = 0xFFFFFFFF
# PS3.5 table 7.1-1: value representations whose length has 4 bytes after 2 reserved ones.
_LONG_FORMS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_LARGEST_HEAD = 1 << 24
"""Bytes of a deflated data set that are inflated in search of its UIDs; they stand in its first few thousand."""
_MOST_ELEMENTS = 100_000
"""Elements that are walked in search of the UIDs; a real data set has them after a few hundred."""
_PDU_BYTES = 131072

OnStored = Callable[[str], None]
"""Called with a study instance UID after an instance of it was acknowledged as new."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the listener listens."""

    ae_title: str
    host: str
    port: int


class NotADataSet(ValueError):
    """The bytes of a C-STORE are no data set in the transfer syntax that was agreed on, or name no study."""


class Listener:
    """The running listener; made by `start_listener`."""

    def __init__(self, ae: AE, server: Any, address: Address) -> None:
        self._ae = ae
        self._server = server
        self.address = address

    def stop(self, drain_s: float) -> None:
        """Take no more associations, let running ones end for `drain_s` seconds, then abort them."""
        self._server.shutdown()
        deadline = time.monotonic() + drain_s
        for association in self._server.active_associations:
            association.join(max(0.0, deadline - time.monotonic()))
        for association in self._server.active_associations:
            association.abort()


def start_listener(settings: ListenerSettings, archive: Archive, on_stored: OnStored) -> Listener:
    """Listen in threads of its own until `stop`. Raises OSError where the port is taken."""
    # Every storage class means also private and future ones: without this, pynetdicom refuses what it does not know.
    # The switch is the library's only one, for the whole process.
    _config.UNRESTRICTED_STORAGE_SERVICE = True
    ae = AE(ae_title=settings.ae_title)
    ae.add_supported_context(Verification)
    ae.require_called_aet = settings.check_called_ae_title
    ae.require_calling_aet = list(settings.calling_ae_titles)
    ae.maximum_associations = settings.max_associations
    ae.maximum_pdu_size = _PDU_BYTES
    ae.network_timeout = settings.idle_timeout_s
    handlers = [
        (evt.EVT_CONN_OPEN, _answer_at_once),
        (evt.EVT_C_STORE, _store, [archive, on_stored]),
        (evt.EVT_REJECTED, _say_rejected),
    ]
    server = ae.start_server((settings.host, settings.port), block=False, evt_handlers=handlers)
    host, port = server.server_address[:2]
    return Listener(ae, server, Address(settings.ae_title, str(host), int(port)))


def instance_key(data_set: BinaryIO, transfer_syntax_uid: str) -> InstanceKey:
    """The UIDs of an encoded data set, read from its beginning; the stream's position is moved.

    Raises NotADataSet and WrongUid. Messages hold no value of the data set.
    """
    data_set.seek(0)
    if transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
        data_set = _inflate_head(data_set)
    found = _find_uids(
        data_set,
        implicit=transfer_syntax_uid == ImplicitVRLittleEndian,
        order=">" if transfer_syntax_uid == ExplicitVRBigEndian else "<",
    )
    try:
        return InstanceKey(found[_STUDY_UID], found[_SERIES_UID], found[_SOP_UID])
    except KeyError as exc:
        raise NotADataSet("it does not parse, or a UID of it is missing") from exc


def _answer_at_once(event: Any) -> None:
    # An answer is one small packet; with Nagle's algorithm it waits for the peer's delayed acknowledgement (40 ms).
    connection = event.assoc.dul.socket
    if connection is not None and connection.socket is not None:
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _say_rejected(event: Any) -> None:
    _LOG.warning("refused an association from %s", event.assoc.requestor.address)


def _store(event: Any, archive: Archive, on_stored: OnStored) -> Dataset | int:  # noqa: PLR0911 - one for each refusal
    request = event.request
    sop_class_uid, uid = str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID)
    syntax = str(event.context.transfer_syntax)
    data_set = request.DataSet if request.DataSet is not None else BytesIO()
    if not is_uid(sop_class_uid):
        return _refuse(UNUSABLE_UID, uid, "the command's SOP class UID is none")
    try:
        key = instance_key(data_set, syntax)
    except WrongUid as exc:
        return _refuse(UNUSABLE_UID, uid, str(exc))
    except NotADataSet as exc:
        return _refuse(NOT_A_DATA_SET, uid, str(exc))
    if key.sop_instance_uid != uid:
        return _refuse(OTHER_UID_IN_COMMAND, uid, "command and data set name different instances")
    try:
        stored = archive.store(key, (encode_file_meta(sop_class_uid, uid, syntax), data_set.getbuffer()))
    except NoRoom as exc:
        return _refuse(OUT_OF_RESOURCES, uid, f"no room: {exc}")
    if stored is Stored.DIFFERENT:
        return _refuse(OTHER_BYTES_UNDER_THIS_UID, uid, "other bytes are kept under this UID")
    if stored is Stored.NEW:
        on_stored(key.study_instance_uid)
    return SUCCESS


def _refuse(status: int, uid: str, why: str) -> Dataset:
    _LOG.warning("refused instance %s with status 0x%04X: %s", _printable(uid), status, why)
    answer = Dataset()
    answer.Status = status
    answer.ErrorComment = why[:64]  # (0000,0902) is LO
    return answer


def _find_uids(data_set: BinaryIO, implicit: bool, order: str) -> dict[int, str]:
    """Walk the top level of a data set up to (0020,000E) and take the three UIDs.

    A walk of our own, because a stranger's bytes come here first: no recursion, no value read but the UIDs', no
    warning that prints a value. Sequences of undefined length are passed by counting their delimiters (PS3.5 7.5).
    """
    found: dict[int, str] = {}
    depth = 0
    for _ in range(_MOST_ELEMENTS):
        if len(found) == 3 or len(head := data_set.read(8)) < 8:
            break
        group, element, vr, length = struct.unpack(f"{order}HH2sH", head)
        long_length = struct.unpack(f"{order}L", head[4:])[0]
        if group == _ITEM_GROUP:
            if element != _ITEM:
                depth -= 1
            elif long_length == _UNDEFINED_LENGTH:
                depth += 1
            else:
                data_set.seek(long_length, 1)
            continue
        tag = group << 16 | element
        if depth <= 0 and tag > _SERIES_UID:
            break
        if implicit or not vr.isalpha():  # implicit also inside a UN of undefined length (PS3.5 6.2.2, note 4)
            length = long_length
        elif vr in _LONG_FORMS:
            length = struct.unpack(f"{order}L", data_set.read(4).ljust(4, b"\0"))[0]
        if length == _UNDEFINED_LENGTH:
            depth += 1
        elif depth <= 0 and tag in (_SOP_UID, _STUDY_UID, _SERIES_UID):
            found[tag] = data_set.read(min(length, 66)).decode("ascii", errors="replace").rstrip("\0 ")
            data_set.seek(max(0, length - 66), 1)
        else:
            data_set.seek(length, 1)
    return found


def _printable(uid: object) -> str:
    return str(uid) if is_uid(str(uid)) else "(no UID)"


def _inflate_head(data_set: BinaryIO) -> BinaryIO:
    # PS3.5 A.5: raw deflate (RFC 1951). The limit is what stands between us and a bomb.
    try:
        return BytesIO(zlib.decompressobj(-zlib.MAX_WBITS).decompress(data_set.read(), _LARGEST_HEAD))
    except zlib.error as exc:
        raise NotADataSet("it is not deflated as agreed") from exc
