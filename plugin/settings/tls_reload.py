"""Take new certificates without a restart: for each new handshake, as soon as the files are others.

A new file that is broken, or does not fit its key yet, leaves the earlier ones in force, and the log says so.
"""

import logging
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

from pipeline.errors import SettingsWrong
from plugin.logs import Outage
from plugin.settings.tls import client_context, make_client_context, server_context
from plugin.settings.values import TlsClient, TlsIdentity

_LOG = logging.getLogger(__name__)

_Stamp = tuple[tuple[int, int, int] | None, ...]


class CurrentContext:
    """The TLS context of some files as they are now, or as they were when they could be used last. Thread-safe."""

    def __init__(self, files: tuple[str, ...], make: Callable[[], ssl.SSLContext], name: str) -> None:
        """`name` is for the log. Raises SettingsWrong where the files cannot be used now."""
        self._files = tuple(file for file in files if file)
        self._make = make
        self._lock = threading.Lock()
        self._outage = Outage(_LOG, f"{name}: new certificates")
        self._stamp = self._read_stamp()
        self._context = make()

    def get(self) -> ssl.SSLContext:
        """Return the context for the next handshake."""
        with self._lock:
            stamp = self._read_stamp()
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._context = self._make()
                except SettingsWrong as exc:
                    self._outage.failed(f"{exc} The earlier ones stay in use")
                else:
                    _LOG.info("%s: the new files are in use", ", ".join(self._files))
                    self._outage.works()
            return self._context

    def _read_stamp(self) -> _Stamp:
        return tuple(_stamp(Path(file).expanduser()) for file in self._files)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def current_server_context(identity: TlsIdentity, name: str, client_ca: str = "") -> ssl.SSLContext | None:
    """Return the context of a server, which shows its newest certificate in each handshake; see `server_context`."""
    first = server_context(identity, name, client_ca)
    if first is None:
        return None
    files = (identity.tls_certificate, identity.tls_key, client_ca)

    def make() -> ssl.SSLContext:
        made = server_context(identity, name, client_ca)
        assert made is not None, "there is a certificate"
        return made

    current = CurrentContext(files, make, name)

    def take_current(connection: ssl.SSLSocket | ssl.SSLObject, _server_name: str | None, _: ssl.SSLContext) -> None:
        # OpenSSL calls this for every ClientHello, also for one that names no server.
        connection.context = current.get()

    first.sni_callback = take_current
    return first


_CLIENTS: dict[tuple[str, ...], CurrentContext] = {}
_CLIENTS_LOCK = threading.Lock()


def current_client_context(section: TlsClient, name: str) -> ssl.SSLContext | None:
    """Return the context for a new connection, with the newest certificates; see `client_context`."""
    if not section.over_tls:
        return None

    def make() -> ssl.SSLContext:
        made = client_context(section, name)
        assert made is not None, "it is over TLS"
        return made

    return _current_client((section.tls_ca, section.tls_certificate, section.tls_key), make, name)


def current_identity_context(
    authorities: str, authorities_key: str, identity: TlsIdentity, name: str
) -> ssl.SSLContext:
    """Return the context for a new connection, with the newest certificates; see `make_client_context`."""
    files = (authorities, identity.tls_certificate, identity.tls_key)
    return _current_client(files, lambda: make_client_context(authorities, authorities_key, identity, name), name)


def _current_client(files: tuple[str, str, str], make: Callable[[], ssl.SSLContext], name: str) -> ssl.SSLContext:
    with _CLIENTS_LOCK:
        known = _CLIENTS.get((name, *files))
    if known is None:
        known = CurrentContext(files, make, name)
        with _CLIENTS_LOCK:
            known = _CLIENTS.setdefault((name, *files), known)
    return known.get()
