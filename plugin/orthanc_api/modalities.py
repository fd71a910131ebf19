"""The DICOM peers that a hosted plugin can send to, as Orthanc's /modalities.

They are the DICOM destinations of the settings, and those that a plugin adds while the node runs. The node's own
results go through the outbox and are not affected.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.errors import InvalidDicomError
from pynetdicom import Association

from plugin.dimse.association import (
    MOST_CONTEXTS,
    PeerAddress,
    Proposal,
    ProposedContext,
    open_association,
    peer_address,
    send_c_echo,
)
from plugin.dimse.response_status import Consequence, store_meaning
from plugin.dimse.store_file import NoContext, send_file, store_contexts
from plugin.errors import PeerFailed
from plugin.orthanc_api.errors import ErrorCode, failure
from plugin.orthanc_api.tags import Json
from plugin.settings.destinations import DestinationSettings
from plugin.settings.sections import Settings
from plugin.settings.values import is_ae_title

_SUCCESS = 0x0000
_PERMISSIONS = ("Echo", "EventReport", "Find", "FindWorklist", "Get", "Move", "NAction", "Store", "Transcoding")
OPERATIONS = ("configuration", "echo", "store")
"""The operations on a modality that are supported, of Orthanc's."""


@dataclass(frozen=True, slots=True)
class Modality:
    """A DICOM peer."""

    ae_title: str
    host: str
    port: int
    destination: DestinationSettings | None = None
    """Its destination in the settings, which may use TLS."""

    def as_json(self) -> Json:
        """Return what GET /modalities/{name}/configuration shows."""
        return {
            "AET": self.ae_title,
            "Host": self.host,
            "LocalAet": "",
            "Manufacturer": "Generic",
            "Port": self.port,
            "Timeout": 0,
            "UseDicomTls": self.destination is not None and self.destination.tls,
        } | {f"Allow{permission}": True for permission in _PERMISSIONS}

    def address(self) -> PeerAddress:
        """Return the address to connect to. Raises PeerFailed."""
        if self.destination is not None:
            return peer_address(self.destination)
        return PeerAddress(self.ae_title, self.host, self.port)


class Modalities:
    """The modalities by name. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self._calling_ae_title = settings.listener.ae_title
        self._timeout_s = settings.delivery.timeout_s
        self._lock = threading.Lock()
        self._modalities = {
            each.name: Modality(each.ae_title, each.host, each.port, each)
            for each in settings.destinations
            if isinstance(each, DestinationSettings)
        }

    def names(self) -> list[str]:
        """Return the names, sorted."""
        with self._lock:
            return sorted(self._modalities)

    def get(self, name: str) -> Modality:
        """Return a modality. Raises OrthancException where there is none."""
        with self._lock:
            found = self._modalities.get(name)
        if found is None:
            raise failure(ErrorCode.INEXISTENT_ITEM)
        return found

    def put(self, name: str, written: Json) -> None:
        """Add or replace a modality, from [AET, host, port] or an object. Raises OrthancException."""
        values = [written.get(key) for key in ("AET", "Host", "Port")] if isinstance(written, dict) else written
        if not isinstance(values, list) or len(values) not in (3, 4):
            raise failure(ErrorCode.BAD_FILE_FORMAT)
        ae_title, host, port = values[:3]
        try:
            port = int(port)
        except (TypeError, ValueError) as exc:
            raise failure(ErrorCode.BAD_FILE_FORMAT) from exc
        if not (isinstance(ae_title, str) and is_ae_title(ae_title) and isinstance(host, str) and 0 < port < 65536):
            raise failure(ErrorCode.BAD_FILE_FORMAT)
        with self._lock:
            self._modalities[name] = Modality(ae_title, host, port)

    def delete(self, name: str) -> None:
        """Remove a modality. Raises OrthancException where there is none."""
        with self._lock:
            if self._modalities.pop(name, None) is None:
                raise failure(ErrorCode.INEXISTENT_ITEM)

    def echo(self, name: str) -> None:
        """Send a C-ECHO. Raises OrthancException where it fails."""
        try:
            if send_c_echo(*self._to(name), self._timeout_s) != _SUCCESS:
                raise failure(ErrorCode.NETWORK_PROTOCOL)
        except PeerFailed as exc:
            raise failure(ErrorCode.NETWORK_PROTOCOL) from exc

    def store(self, name: str, files: Sequence[tuple[Path, str, str]]) -> int:
        """Send files by C-STORE, with SOP class and transfer syntax of each; return how many were not stored."""
        proposed = [store_contexts(sop_class, syntax) for _, sop_class, syntax in files]
        contexts = tuple(sorted({context for each in proposed for context in each}))
        if len(contexts) > MOST_CONTEXTS:
            raise failure(ErrorCode.NETWORK_PROTOCOL)
        try:
            with open_association(*self._to(name), Proposal(contexts), self._timeout_s) as association:
                return sum(
                    not _store(association, path, each, number)
                    for number, ((path, _, _), each) in enumerate(zip(files, proposed, strict=True))
                )
        except (PeerFailed, RuntimeError) as exc:
            raise failure(ErrorCode.NETWORK_PROTOCOL) from exc

    def _to(self, name: str) -> tuple[PeerAddress, str]:
        return self.get(name).address(), self._calling_ae_title


def _store(association: Association, path: Path, proposed: tuple[ProposedContext, ...], number: int) -> bool:
    try:
        status = send_file(association, path, proposed, number)
    except (OSError, InvalidDicomError, ValueError, NoContext):  # the file is gone, or its class is not accepted
        return False
    return store_meaning(status).consequence in (Consequence.STORED, Consequence.STORED_WITH_WARNING)
