"""Keep studies that are to be submitted in Orthanc's database, so that they outlive its end, however long it is down.

Orthanc 1.12.10 and its Python plugin 7 have such queues, on SQLite and PostgreSQL. Imports the standard library alone.
"""

import json
from typing import Any

_NAME = "glionode"
_RESERVED_S = 60
"""An entry that was read and not acknowledged is read again after so long, as after Orthanc was killed meanwhile."""


class StoredQueue:
    """Orthanc's queue of studies. For calls from Orthanc's callbacks and from one thread of the script."""

    def __init__(self, orthanc: Any) -> None:
        self._orthanc = orthanc
        self._entries: dict[str, set[int]] = {}
        """The numbers of the entries that were read, by study."""

    def add(self, study: str) -> None:
        """Append a study. Raises what Orthanc raises."""
        self._orthanc.EnqueueValue(_NAME, study.encode("ascii"))

    def read(self, most: int) -> list[str]:
        """Return studies that were added, oldest first, and those that were read long ago and never removed."""
        found: list[str] = []
        while len(found) < most:
            value, entry = self._orthanc.ReserveQueueValue(_NAME, self._orthanc.QueueOrigin.FRONT, _RESERVED_S)
            if value is None:
                break
            study = bytes(value).decode("ascii", errors="replace")
            self._entries.setdefault(study, set()).add(int(entry))
            found.append(study)
        return found

    def remove(self, study: str) -> None:
        """Remove the entries of a study that were read. Raises what Orthanc raises."""
        entries = self._entries.pop(study, set())
        while entries:
            entry = entries.pop()
            try:
                self._orthanc.AcknowledgeQueueValue(_NAME, entry)
            except self._orthanc.OrthancException as exc:
                if exc.args[0] != self._orthanc.ErrorCode.UNKNOWN_RESOURCE:  # it was removed already
                    self._entries[study] = entries | {entry}
                    raise


def open_stored_queue(orthanc: Any) -> StoredQueue | None:
    """Return the queue; None where this Orthanc, its Python plugin or its database has none.

    Orthanc must have started: while it loads its plugins, its database cannot be used.
    """
    if not hasattr(orthanc, "ReserveQueueValue"):
        return None
    system = json.loads(orthanc.RestApiGet("/system"))
    return StoredQueue(orthanc) if system.get("Capabilities", {}).get("HasReserveQueueValue") else None
