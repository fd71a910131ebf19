"""Sending results to DICOM peers: C-STORE with its answer checked, and C-ECHO. Reads the outbox; makes no results.

Each destination has a thread and an association of its own, so a dead one delays no other.
"""

import logging
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID
from pynetdicom import AE, Association, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined, unused-ignore]

from pipeline.errors import SettingsWrong
from plugin import outbox
from plugin.audit import Peer
from plugin.outbox import OutboxEntry
from plugin.settings import DeliverySettings, DestinationSettings
from plugin.tls import destination_context

_LOG = logging.getLogger(__name__)

_SUCCESS = 0x0000
# PS3.4 table B.2-1: the object is stored, with elements coerced (B000), discarded (B006) or not matching (B007).
_STORED_WITH_WARNING = (0xB000, 0xB006, 0xB007)
_BATCH = 100
"""Objects in one association; well below the 128 presentation contexts that one can propose (PS3.8 9.3.2.2)."""
_LOOK_EVERY_S = 0.5
_JITTER = 0.2


@dataclass(frozen=True, slots=True)
class EchoResult:
    """What a C-ECHO came to."""

    destination: str
    answered: bool
    message: str
    seconds: float


class PeerFailed(Exception):
    """The peer cannot be reached, refuses, or breaks off."""


def echo(destination: DestinationSettings, calling_ae_title: str, timeout_s: float = 10.0) -> EchoResult:
    """Ask a destination whether it is there (C-ECHO)."""
    started = time.monotonic()
    try:
        with _associated(destination, calling_ae_title, ((str(Verification), "1.2.840.10008.1.2"),), timeout_s) as peer:
            status = getattr(peer.send_c_echo(), "Status", None)
    except PeerFailed as exc:
        return EchoResult(destination.name, False, str(exc), time.monotonic() - started)
    answered = status == _SUCCESS
    message = "it answers" if answered else _status_text(status)
    return EchoResult(destination.name, answered, message, time.monotonic() - started)


def pause_after(attempts: int, settings: DeliverySettings, spread: float) -> float:
    """Seconds to wait after `attempts` failures: doubling up to the longest, `spread` (-1 to 1) fifths off it."""
    doubled = settings.retry_first_s * 2.0 ** min(attempts - 1, 30)
    return min(doubled, settings.retry_longest_s) * (1 + _JITTER * spread)


class Deliverer:
    """Sends what is due to one destination, in a thread of its own."""

    def __init__(
        self, url: str, destination: DestinationSettings, calling_ae_title: str, settings: DeliverySettings
    ) -> None:
        self._url = url
        self._destination = destination
        self._calling_ae_title = calling_ae_title
        self._settings = settings
        self._away = False

    def run(self, stop: threading.Event) -> None:
        """Send until `stop`. What goes wrong is recorded in the outbox or logged, and tried again."""
        while not stop.is_set():
            try:
                with psycopg.connect(self._url, autocommit=True) as connection:
                    self._run_with(connection, stop)
            except psycopg.Error as exc:
                _LOG.error("delivery to %s lost the database (%s)", self._destination.name, type(exc).__name__)
            except Exception as exc:  # noqa: BLE001 - the outermost loop of this thread; rows stay due
                _LOG.error("delivery to %s failed (%s)", self._destination.name, type(exc).__name__)
            stop.wait(1.0)

    def _run_with(self, connection: psycopg.Connection[Any], stop: threading.Event) -> None:
        while not stop.is_set():
            # One deliverer per destination, on however many hosts; the lock ends with the connection.
            row = connection.execute(
                "SELECT pg_try_advisory_lock(hashtext('glionode-deliver'), hashtext(%s))", (self._destination.name,)
            ).fetchone()
            if row and row[0]:
                break
            stop.wait(_LOOK_EVERY_S)
        while not stop.is_set():
            entries = outbox.due(connection, self._destination.name, _BATCH)
            if entries:
                self._send(connection, entries, stop)
            else:
                stop.wait(_LOOK_EVERY_S)

    def _send(
        self, connection: psycopg.Connection[Any], entries: tuple[OutboxEntry, ...], stop: threading.Event
    ) -> None:
        sendable = []
        for entry in entries:
            context = _context_of(Path(entry.path))
            if context is None:
                self._failed(connection, entry, f"{entry.path} is gone or no DICOM file", final=True)
            else:
                sendable.append((entry, context))
        left = [entry for entry, _ in sendable]
        contexts = tuple(sorted({context for _, context in sendable}))
        try:
            with self._associate(contexts) as peer:
                if self._away:  # what waits because of that need wait no longer
                    outbox.make_due(connection, self._destination.name)
                    self._away = False
                while left and not stop.is_set():
                    self._send_one(connection, peer, left[0])
                    left.pop(0)
        except PeerFailed as exc:
            self._away = True
            for entry in left:
                self._failed(connection, entry, str(exc))

    def _associate(self, contexts: tuple[tuple[str, str], ...]) -> Any:
        return _associated(self._destination, self._calling_ae_title, contexts, self._settings.timeout_s)

    def _send_one(self, connection: psycopg.Connection[Any], peer: Association, entry: OutboxEntry) -> None:
        try:
            status = getattr(peer.send_c_store(dcmread(entry.path)), "Status", None)
        except (OSError, InvalidDicomError) as exc:
            self._failed(connection, entry, f"{entry.path} cannot be read ({type(exc).__name__})")
            return
        except ValueError:  # no presentation context was accepted for it
            self._failed(connection, entry, "it accepts no presentation context for this kind of object")
            return
        except RuntimeError as exc:
            raise PeerFailed("it ended the association") from exc
        if status is None:
            raise PeerFailed("it did not answer a C-STORE")
        name, uid = self._destination.name, entry.sop_instance_uid
        if status == _SUCCESS or status in _STORED_WITH_WARNING:
            remark = None if status == _SUCCESS else f"stored with warning 0x{status:04X}"
            receiver = Peer(self._destination.ae_title, f"{self._destination.host}:{self._destination.port}")
            with connection.transaction():
                outbox.record_sent(connection, name, uid, remark, receiver)
            _LOG.info("sent %s to %s", uid, name)
        else:
            self._failed(connection, entry, _status_text(status))

    def _failed(self, connection: psycopg.Connection[Any], entry: OutboxEntry, error: str, final: bool = False) -> None:
        name, uid = self._destination.name, entry.sop_instance_uid
        age_h = (datetime.now(UTC) - entry.created_at).total_seconds() / 3600
        pause: float | None = pause_after(entry.attempts + 1, self._settings, random.uniform(-1, 1))
        if final or age_h > self._settings.give_up_after_h:
            pause = None
        with connection.transaction():
            outbox.record_failed(connection, name, uid, error, pause)
        again = "it is given up" if pause is None else f"next try in {pause:.1f} s"
        _LOG.warning("could not send %s to %s: %s; %s", uid, name, error, again)


@contextmanager
def _associated(
    destination: DestinationSettings,
    calling_ae_title: str,
    contexts: tuple[tuple[str, str], ...],
    timeout_s: float,
) -> Iterator[Association]:
    """An association that proposes exactly these pairs of SOP class and transfer syntax. Raises PeerFailed."""
    if not contexts:
        raise PeerFailed("there is nothing to propose")
    try:
        tls = destination_context(destination)
    except SettingsWrong as exc:
        raise PeerFailed(str(exc)) from exc
    ae = AE(ae_title=calling_ae_title)
    ae.connection_timeout = min(timeout_s, 10.0)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = timeout_s
    for sop_class, transfer_syntax in contexts:
        ae.add_requested_context(UID(sop_class), UID(transfer_syntax))
    connected = threading.Event()
    association = ae.associate(
        destination.host,
        destination.port,
        ae_title=destination.ae_title,
        evt_handlers=[(evt.EVT_CONN_OPEN, _on_connection, [connected])],
        tls_args=(tls, destination.tls_server_name or destination.host) if tls is not None else None,
    )
    if not association.is_established:
        raise PeerFailed(_why_not(association, connected.is_set(), destination))
    try:
        yield association
    finally:
        if association.is_established:
            association.release()
        else:
            association.abort()


def _why_not(association: Association, connected: bool, destination: DestinationSettings) -> str:
    where = f"{destination.ae_title} at {destination.host}:{destination.port}"
    over_tls = " over TLS; look at its certificate, tls_ca and tls_server_name" if destination.tls else ""
    if not connected:
        return f"{where} cannot be reached{over_tls}"
    if association.is_rejected:
        return f"{where} refuses the association; look at the AE titles that it knows"
    if destination.tls:
        return f"{where} breaks off the negotiation; it may not accept the certificate that the node shows"
    return f"{where} breaks off the negotiation, or accepts no presentation context for these objects"


def _on_connection(event: Any, connected: threading.Event) -> None:
    connected.set()
    connection = event.assoc.dul.socket
    if connection is not None and connection.socket is not None:
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _context_of(path: Path) -> tuple[str, str] | None:
    try:
        meta = read_file_meta_info(path)
        return str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID)
    except (OSError, InvalidDicomError, AttributeError):
        return None


def _status_text(status: int | None) -> str:
    return "it does not answer" if status is None else f"it answers with status 0x{status:04X}"
