"""Keep the index of the archive up to date, and tell the hosted plugin what arrived, was removed or became stable.

The watcher compares folders with the index, so a missed event loses nothing: what arrived while the node was down is
reported at the next start, in the order of the files' names within a study.
"""

import logging
import threading
import time
from pathlib import Path

from plugin.database.audit_log import Peer
from plugin.orthanc_api.embedded_host import EmbeddedHost, Event
from plugin.orthanc_api.enums import ChangeType, InstanceOrigin
from plugin.orthanc_api.index import Reception
from plugin.orthanc_api.levels import Level
from plugin.orthanc_api.tags import NotDicom

_LOG = logging.getLogger(__name__)

_POLL_S = 0.25
_UNKNOWN_SENDER = Peer("", "")


class ArchiveWatcher:
    """Checks the studies that changed, and from time to time all of them."""

    def __init__(self, host: EmbeddedHost) -> None:
        self._host = host
        self._touched: dict[str, Peer] = {}
        self._skipped: dict[Path, tuple[int, int]] = {}
        """Files that are not DICOM, or have the identifiers of other files, with their versions: a file that replaces
        one of them is read again."""
        self._lock = threading.Lock()
        self._next_scan = 0.0

    def touch(self, study_instance_uid: str, sender: Peer = _UNKNOWN_SENDER) -> None:
        """Note that an instance of this study arrived. Cheap; may be called from any thread."""
        with self._lock:
            if sender is not _UNKNOWN_SENDER or study_instance_uid not in self._touched:
                self._touched[study_instance_uid] = sender

    def run(self, stop: threading.Event) -> None:
        """Index the archive, emit ORTHANC_STARTED, and poll until `stop`. Failures are logged and retried."""
        while not stop.is_set():
            try:
                if self._host.started:
                    self.poll()
                else:
                    self.load_archive(stop)
            except Exception as exc:  # noqa: BLE001 - the outermost loop of this thread; the next poll repairs it
                _LOG.error(
                    "comparing the archive with the hosted plugin's index failed (%s); retrying", type(exc).__name__
                )
                stop.wait(2.0)
            stop.wait(_POLL_S)

    def load_archive(self, stop: threading.Event) -> None:
        """Index what the plugin knew when it last ran, or all at its first start, and emit ORTHANC_STARTED."""
        host, index = self._host, self._host.index
        seen = host.store.receptions()
        for study in host.archive.studies():
            for path in host.archive.files(study):
                if stop.is_set():
                    return
                self._add(path)
        if host.store.initialise([each.identifier for each in index.all(Level.INSTANCE)], index.parent_identifiers()):
            seen = host.store.receptions()
        unknown = [each for each in index.all(Level.INSTANCE) if each.identifier not in seen]
        for instance in index.all(Level.INSTANCE):
            instance.reception = seen.get(instance.identifier, instance.reception)
        index.remove(unknown)  # the first poll indexes them again, as new
        stable = host.store.stable()
        for level in (Level.PATIENT, Level.STUDY, Level.SERIES):
            for each in index.all(level):
                if each.identifier in stable:
                    index.mark_stable(each)
        host.store.delete_others(
            [*index.parent_identifiers(), *(each.identifier for each in index.all(Level.INSTANCE))]
        )
        host.started = True
        host.emit(Event(ChangeType.ORTHANC_STARTED))
        _LOG.info("the hosted plugin sees %d instances, %d of them new", len(index.paths) + len(unknown), len(unknown))

    def poll(self) -> None:
        """Check the changed studies once. On an error of disk or database the unchecked ones stay noted."""
        if time.monotonic() >= self._next_scan:
            for study in self._host.archive.studies():
                self.touch(study)
            self._remove_missing()
            self._next_scan = time.monotonic() + self._host.settings.study.rescan_every_s
        with self._lock:
            touched = dict(self._touched)
        failure: Exception | None = None
        for study, sender in touched.items():
            # Removed before the check: an instance that arrives meanwhile adds it again.
            with self._lock:
                self._touched.pop(study, None)
            try:
                self._take_in(study, Reception(InstanceOrigin.DICOM_PROTOCOL, sender))
            except Exception as exc:  # noqa: BLE001 - raised below, after the other studies
                self.touch(study, sender)
                failure = exc
        self._host.emit_stable()
        if failure is not None:
            raise failure

    def _take_in(self, study: str, reception: Reception) -> None:
        for path in self._host.archive.files(study):
            if path in self._host.index:
                continue
            added = None
            try:
                version = _version(path)
                if self._skipped.get(path) == version:
                    continue
                added = self._host.index_file(path, reception)
            except FileNotFoundError:  # removed meanwhile
                continue
            except NotDicom as exc:
                _LOG.warning("an instance of study %s is hidden from the hosted plugin: %s", study, exc)
            # A plugin may have stored and indexed it meanwhile.
            if added is None and path not in self._host.index:
                self._skipped[path] = version

    def _add(self, path: Path) -> None:
        try:
            version = _version(path)
            if path not in self._host.index and self._host.index.add(path, Reception()) is None:
                self._skipped[path] = version
        except FileNotFoundError:
            return
        except NotDicom:
            self._skipped[path] = version

    def _remove_missing(self) -> None:
        gone = [found for path in self._host.index.paths if not path.exists() and (found := self._host.index.at(path))]
        if gone:
            self._host.remove_missing(gone)
        self._skipped = {path: version for path, version in self._skipped.items() if path.exists()}


def _version(path: Path) -> tuple[int, int]:
    """Return a value that differs between successive files at a path. Raises FileNotFoundError."""
    found = path.stat()
    return found.st_ino, found.st_mtime_ns
