"""Keeps the index of an archive up to date, and has plugins told of what comes, goes and is quiet. Has a thread.

It compares folders with the index, so nothing that was missed is lost: what came while the node was down is told of at
the next start, in the order of the files' names within a study.
"""

import logging
import threading
import time
from pathlib import Path

from plugin.database.audit_log import Peer
from plugin.orthanc_api.embedded_host import EmbeddedHost, Event
from plugin.orthanc_api.enums import ChangeType, InstanceOrigin
from plugin.orthanc_api.index import Came
from plugin.orthanc_api.levels import Level
from plugin.orthanc_api.tags import NotDicom

_LOG = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.25
_NOBODY = Peer("", "")


class ArchiveWatch:
    """Looks at studies that were touched, and now and then at all of them."""

    def __init__(self, host: EmbeddedHost) -> None:
        self._host = host
        self._touched: dict[str, Peer] = {}
        self._passed_over: dict[Path, tuple[int, int]] = {}
        """Files that are no DICOM, or have the identifiers of others, as they were: one that takes the place of such a
        file is looked at."""
        self._lock = threading.Lock()
        self._next_scan = 0.0

    def touch(self, study_instance_uid: str, sender: Peer = _NOBODY) -> None:
        """An instance of this study has come. Cheap; may be called from any thread."""
        with self._lock:
            if sender is not _NOBODY or study_instance_uid not in self._touched:
                self._touched[study_instance_uid] = sender

    def run(self, stop: threading.Event) -> None:
        """Take in what is there, say ORTHANC_STARTED, and look until `stop`. Failures are logged and tried again."""
        while not stop.is_set():
            try:
                if self._host.started:
                    self.look()
                else:
                    self.take_in_all(stop)
            except Exception as exc:  # noqa: BLE001 - the outermost loop of this thread; the next look makes it good
                _LOG.error("looking for what plugins are told of failed (%s); it is tried again", type(exc).__name__)
                stop.wait(2.0)
            stop.wait(_LOOK_EVERY_S)

    def take_in_all(self, stop: threading.Event) -> None:
        """Index what there was at the last end, or at the first start with a plugin, and let the plugin begin."""
        host, index = self._host, self._host.index
        seen = host.store.seen()
        for study in host.archive.studies():
            for path in host.archive.files(study):
                if stop.is_set():
                    return
                self._add(path)
        if host.store.begin([each.identifier for each in index.all(Level.INSTANCE)], index.identifiers_above()):
            seen = host.store.seen()
        unknown = [each for each in index.all(Level.INSTANCE) if each.identifier not in seen]
        for instance in index.all(Level.INSTANCE):
            instance.came = seen.get(instance.identifier, instance.came)
        index.remove(unknown)  # they are taken in again below, as what they are: new
        stable = host.store.stable()
        for level in (Level.PATIENT, Level.STUDY, Level.SERIES):
            for each in index.all(level):
                if each.identifier in stable:
                    index.settle(each)
        host.store.keep_only([*index.identifiers_above(), *(each.identifier for each in index.all(Level.INSTANCE))])
        host.started = True
        host.tell(Event(ChangeType.ORTHANC_STARTED))
        _LOG.info("plugins see %d instances, %d of them new", len(index.paths) + len(unknown), len(unknown))

    def look(self) -> None:
        """One look. Raises what disk and database raise; then what was not looked at stays noted."""
        if time.monotonic() >= self._next_scan:
            for study in self._host.archive.studies():
                self.touch(study)
            self._forget_what_is_gone()
            self._next_scan = time.monotonic() + self._host.settings.study.rescan_every_s
        with self._lock:
            touched = dict(self._touched)
        failure: Exception | None = None
        for study, sender in touched.items():
            # Taken off before it is looked at: an instance that comes meanwhile puts it on again.
            with self._lock:
                self._touched.pop(study, None)
            try:
                self._take_in(study, Came(InstanceOrigin.DICOM_PROTOCOL, sender))
            except Exception as exc:  # noqa: BLE001 - raised below: one study's trouble is not the others'
                self.touch(study, sender)
                failure = exc
        self._host.settle_quiet()
        if failure is not None:
            raise failure

    def _take_in(self, study: str, came: Came) -> None:
        for path in self._host.archive.files(study):
            if path in self._host.index:
                continue
            added = None
            try:
                looked_at = _version(path)
                if self._passed_over.get(path) == looked_at:
                    continue
                added = self._host.take_in(path, came)
            except FileNotFoundError:  # removed meanwhile
                continue
            except NotDicom as exc:
                _LOG.warning("plugins do not see an instance of study %s: %s", study, exc)
            # It is in the index where a plugin stored it meanwhile.
            if added is None and path not in self._host.index:
                self._passed_over[path] = looked_at

    def _add(self, path: Path) -> None:
        try:
            looked_at = _version(path)
            if path not in self._host.index and self._host.index.add(path, Came()) is None:
                self._passed_over[path] = looked_at
        except FileNotFoundError:
            return
        except NotDicom:
            self._passed_over[path] = looked_at

    def _forget_what_is_gone(self) -> None:
        gone = [found for path in self._host.index.paths if not path.exists() and (found := self._host.index.at(path))]
        if gone:
            self._host.forget(gone)
        self._passed_over = {path: version for path, version in self._passed_over.items() if path.exists()}


def _version(path: Path) -> tuple[int, int]:
    """Differs between files that have the path one after the other. Raises FileNotFoundError."""
    found = path.stat()
    return found.st_ino, found.st_mtime_ns
