"""Results of another host: an object that cannot be fetched holds up no others."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from plugin.archive.spool import Spool
from plugin.delivery.result_source import HttpResults
from plugin.errors import ArchiveUnavailable
from plugin.http.archive_client import ArchiveClient
from plugin.jobs.outbox import OutboxEntry


class FailingArchive:
    """Fails at one path, as a disk does that cannot read one file."""

    def __init__(self, failing: str) -> None:
        self.failing = failing

    def fetch(self, path: str, target: Path) -> None:
        """Write something, or fail."""
        if path.endswith(self.failing):
            raise ArchiveUnavailable("HTTP 500")
        target.write_bytes(b"content")

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture
def results(tmp_path: Path) -> Iterator[HttpResults]:
    """Return a source whose archive fails at one file."""
    made = HttpResults(cast(ArchiveClient, FailingArchive("1.dcm")), Spool(tmp_path))
    yield made
    made.close()


def test_an_object_that_cannot_be_fetched_holds_up_no_others(results: HttpResults) -> None:
    folder = f"/data/results/1.2.3/{'0' * 16}"
    entries = [OutboxEntry(f"1.{number}", f"{folder}/{number}.dcm", 0, datetime.now(UTC)) for number in (1, 2, 3)]
    assert results.fetch(entries) == (), "the archive may be away, so the others are not waited for"
    assert [each.sop_instance_uid for each in results.fetch(entries)] == ["1.2", "1.3"]
    assert results.fetch(entries[:1]) == ()
