"""Get the results that are to be sent: from a disk of this host, or over HTTP from the host with the archive."""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from plugin.archive.spool import Spool
from plugin.errors import ArchiveUnavailable, NotInArchive
from plugin.http.archive_client import ArchiveClient
from plugin.http.transfer import WrongTransfer, parse_result_path
from plugin.jobs.outbox import OutboxEntry
from plugin.logs import Outage
from plugin.settings.sections import Settings

_LOG = logging.getLogger(__name__)

_PATIENCE_S = 5.0
"""Short, as the outbox is polled again soon, and a deliverer has to stop in time."""


def root_of_result(path: Path) -> Path:
    """Return the folder of all results for a file of one. Where that is missing, the disk is, and nothing was lost."""
    return path.parents[min(2, len(path.parents) - 1)]


class ResultSource(Protocol):
    """Makes the objects of outbox entries readable on this host."""

    def fetch(self, entries: Sequence[OutboxEntry]) -> tuple[OutboxEntry, ...]:
        """Return the entries that can be sent now, with paths that are valid until the next call.

        An entry whose object no longer exists keeps its path; one that cannot be fetched at the moment is left out.
        """

    def close(self) -> None:
        """Remove what was fetched."""


class DiskResults:
    """Results on a disk of this host."""

    def __init__(self) -> None:
        self._is_absent = False

    def fetch(self, entries: Sequence[OutboxEntry]) -> tuple[OutboxEntry, ...]:
        """Return the entries as they are, without those whose disk is not there."""
        absent = {root for each in entries if not (root := root_of_result(Path(each.path))).is_dir()}
        if absent and not self._is_absent:
            _LOG.error("%s is not there, so its results wait; is the disk mounted?", ", ".join(map(str, absent)))
        self._is_absent = bool(absent)
        return tuple(each for each in entries if root_of_result(Path(each.path)) not in absent)

    def close(self) -> None:
        """Do nothing: nothing was fetched."""


class HttpResults:
    """Results of another host. For one thread."""

    def __init__(self, client: ArchiveClient, spool: Spool) -> None:
        self._client = client
        self._spool = spool
        self._folder: Path | None = None
        self._outage = Outage(_LOG, "fetching objects from the archive")
        self._failing: set[str] = set()
        """SOP Instance UIDs at which a fetch failed lately: others go first, so that one object holds up none."""

    def fetch(self, entries: Sequence[OutboxEntry]) -> tuple[OutboxEntry, ...]:
        """Remove what was fetched before and fetch these objects."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        if not entries:
            return ()
        self._folder = self._spool.make_folder()
        fetched: list[OutboxEntry] = []
        self._failing &= {each.sop_instance_uid for each in entries}
        try:
            for entry in sorted(entries, key=lambda each: each.sop_instance_uid in self._failing):
                self._failing.add(entry.sop_instance_uid)
                fetched.append(self._fetch_one(entry, self._folder / f"{len(fetched)}.dcm"))
                self._failing.remove(entry.sop_instance_uid)
        except ArchiveUnavailable as exc:
            self._outage.failed(f"{len(entries) - len(fetched)} of {len(entries)} stay due: {exc}", kind=str(exc))
        else:
            self._outage.works()
        return tuple(fetched)

    def close(self) -> None:
        """Close the connection and remove the spool."""
        self._client.close()
        self._spool.close()

    def _fetch_one(self, entry: OutboxEntry, target: Path) -> OutboxEntry:
        try:
            self._client.fetch("/api/results/" + "/".join(parse_result_path(entry.path)), target)
        except (NotInArchive, WrongTransfer):
            return entry
        return replace(entry, path=str(target))


def open_result_source(settings: Settings) -> ResultSource:
    """Open the source of results that the settings name. Raises SettingsWrong."""
    if settings.http.archive_url:
        return HttpResults(ArchiveClient(settings.http, _PATIENCE_S), Spool(settings.data_dir))
    return DiskResults()
