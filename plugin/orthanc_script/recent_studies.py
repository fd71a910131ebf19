"""All studies of Orthanc that changed lately, a page at a time. The standard library alone; see orthanc_plugin.py.

A call of Orthanc's SDK holds Python's lock, so nobody asks for all studies at once.
"""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

_PAGE = 50
"""Studies that are asked for at once: some 10 ms."""


class Comparison:
    """A walk over all studies. One that is deleted meanwhile may hide another one, which the next walk finds."""

    def __init__(self, orthanc: Any, days: float) -> None:
        """Of the last so many days."""
        self._orthanc = orthanc
        self._oldest = (datetime.now(UTC) - timedelta(days=days)).strftime("%Y%m%dT%H%M%S")  # as Orthanc writes it
        self._start = 0
        self.recent: set[str] = set()
        """Identifiers of all that were seen, stable or not."""
        self.over = False

    def next_page(self) -> dict[str, str]:
        """The stable ones of the next page, with their LastUpdate. Raises what Orthanc raises."""
        page = json.loads(self._orthanc.RestApiGet(f"/studies?expand&since={self._start}&limit={_PAGE}"))
        self._start += _PAGE
        self.over = len(page) < _PAGE
        recent = {str(study["ID"]): study for study in page if str(study.get("LastUpdate", "")) >= self._oldest}
        self.recent |= recent.keys()
        return {name: str(study["LastUpdate"]) for name, study in recent.items() if study.get("IsStable")}
