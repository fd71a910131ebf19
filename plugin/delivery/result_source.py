"""Where a deliverer has the objects from that it sends: a disk that it shares, or the archive's host."""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from plugin.archive.spool import Spool
from plugin.errors import ArchiveAway, NotInArchive
from plugin.http.archive_client import ArchiveClient
from plugin.http.transfer import WrongTransfer, result_path
from plugin.jobs.outbox import OutboxEntry
from plugin.settings.sections import Settings

_LOG = logging.getLogger(__name__)

_PATIENCE_S = 5.0
"""Short, for the outbox is looked at again soon, and a deliverer has to end in time."""


class ResultSource(Protocol):
    """Makes rows of the outbox readable on this host."""

    def at_hand(self, entries: Sequence[OutboxEntry]) -> tuple[OutboxEntry, ...]:
        """Those that can be sent now, with paths that stand until the next call. What is missing for good keeps its
        path; what cannot be had for the moment is left out.
        """

    def close(self) -> None:
        """Remove what was fetched."""


class DiskResults:
    """The results lie on a disk of this host."""

    def at_hand(self, entries: Sequence[OutboxEntry]) -> tuple[OutboxEntry, ...]:
        """They are."""
        return tuple(entries)

    def close(self) -> None:
        """They stay."""


class HttpResults:
    """The results are another host's; they are fetched to be sent. For one thread."""

    def __init__(self, client: ArchiveClient, spool: Spool) -> None:
        self._client = client
        self._spool = spool
        self._folder: Path | None = None

    def at_hand(self, entries: Sequence[OutboxEntry]) -> tuple[OutboxEntry, ...]:
        """Remove what was fetched before and fetch these."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        if not entries:
            return ()
        self._folder = self._spool.folder()
        fetched: list[OutboxEntry] = []
        try:
            for entry in entries:
                fetched.append(self._fetch(entry, self._folder / f"{len(fetched)}.dcm"))
        except ArchiveAway as exc:
            _LOG.warning("%d of %d objects wait: %s", len(entries) - len(fetched), len(entries), exc)
        return tuple(fetched)

    def close(self) -> None:
        """Hang up and remove the spool."""
        self._client.close()
        self._spool.close()

    def _fetch(self, entry: OutboxEntry, target: Path) -> OutboxEntry:
        try:
            self._client.fetch("/api/results/" + "/".join(result_path(entry.path)), target)
        except (NotInArchive, WrongTransfer):
            return entry
        return replace(entry, path=str(target))


def open_result_source(settings: Settings) -> ResultSource:
    """The way to the results that the settings name. Raises SettingsWrong."""
    if settings.http.archive_url:
        return HttpResults(ArchiveClient(settings.http, _PATIENCE_S), Spool(settings.data_dir))
    return DiskResults()
