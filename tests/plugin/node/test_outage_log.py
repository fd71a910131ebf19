"""What is tried again and again is logged where its state changes, and not for each try."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from plugin.database.pool import Database
from plugin.delivery import destination_loop
from plugin.delivery.deliverer import Deliverer
from plugin.jobs.reconcile import Reconciler
from plugin.logs import Outage, RepeatedLines, limit_library_logging
from plugin.node import run
from plugin.settings.destinations import DestinationSettings
from plugin.settings.sections import DeliverySettings, StudySettings

LOGGER = logging.getLogger("tests.outage")


@pytest.fixture(autouse=True)
def log_level(caplog: pytest.LogCaptureFixture) -> None:
    """A command that ran before in this process may have left another one."""
    caplog.set_level(logging.WARNING)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_line_at_the_first_failure_and_one_when_it_works_again(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    outage = Outage(LOGGER, "sending to pacs", clock)
    outage.works()
    for _ in range(50):
        outage.failed("it does not answer")
        clock.now += 2
    assert outage.lasts
    outage.works()
    outage.works()
    assert caplog.messages == [
        "sending to pacs: it does not answer; it is tried again, with no line for each try",
        "sending to pacs: works again, after 50 failed tries in 100 s",
    ]
    assert not outage.lasts
    outage.failed("it does not answer")
    assert len(caplog.messages) == 3, "the next outage is a new one"


def test_a_line_of_a_library_is_logged_once_and_again_after_ten_minutes(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    limited = RepeatedLines(clock)
    LOGGER.addFilter(limited)
    try:
        for _ in range(20):
            for text in ("Association request failed", "TCP Initialisation Error"):
                LOGGER.error(text)
            clock.now += 60
    finally:
        LOGGER.removeFilter(limited)
    assert caplog.messages == ["Association request failed", "TCP Initialisation Error"] * 2


def test_the_library_that_talks_to_peers_is_limited() -> None:
    limit_library_logging(logging.INFO)
    limit_library_logging(logging.INFO)
    filters = logging.getLogger("pynetdicom.transport").filters
    assert [isinstance(each, RepeatedLines) for each in filters].count(True) == 1


def test_another_reason_is_a_line_of_its_own_but_not_without_end(caplog: pytest.LogCaptureFixture) -> None:
    outage = Outage(LOGGER, "sending to pacs")
    for _ in range(10):
        outage.failed("it does not answer")
        outage.failed("it refuses")
    assert len(caplog.messages) == 2
    for number in range(100):
        outage.failed(f"{number} bytes are free", kind="disk")
    assert len(caplog.messages) == 3, "texts of one kind are one reason"
    for number in range(100):
        outage.failed(f"{number} bytes are free")
    assert len(caplog.messages) == 20


class Rounds(threading.Event):
    """Is set after so many waits, each of which calls `before`."""

    def __init__(self, rounds: int, before: Callable[[int], None] = lambda _: None) -> None:
        super().__init__()
        self._left = rounds
        self._before = before

    def wait(self, timeout: float | None = None) -> bool:
        self._left -= 1
        self._before(self._left)
        if self._left < 0:
            self.set()
        return self.is_set()


class BrokenDatabase:
    """Database and queue in one, which do not answer at the first sweeps."""

    def __init__(self) -> None:
        self.database = self.queue = self
        self.failures = 5

    def ensure_running(self) -> None:
        """It runs."""

    def requeue_stalled(self, _: float) -> None:
        if self.failures:
            self.failures -= 1
            raise psycopg.OperationalError("no text of the server is logged")


def test_a_database_that_does_not_answer_is_two_lines(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_SWEEP_EVERY_S", 0.0)
    run._supervise(BrokenDatabase(), None, Rounds(20))  # type: ignore[arg-type]
    assert [each.split(",")[0] for each in caplog.messages] == [
        "the database: it does not answer (OperationalError); it is tried again",
        "the database: works again",
    ]


def test_a_reconciler_that_fails_is_one_line(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    reconciler = Reconciler(None, None, StudySettings(), "")  # type: ignore[arg-type]
    reconciler.run(Rounds(20))
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("creating jobs for received studies: it failed (AttributeError);")


def test_a_destination_that_was_down_is_two_lines(caplog: pytest.LogCaptureFixture, database: Database) -> None:
    destination = DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=1)
    deliverer = Deliverer(database.url, destination, "GLIONODE", DeliverySettings())
    with database.pool.connection() as connection:
        for _ in range(20):
            deliverer._record_unreachable(connection, "it does not answer")
        deliverer._record_reached(connection)
    assert [each.split(",")[0].split(";")[0] for each in caplog.messages] == [
        "sending to pacs: it does not answer",
        "sending to pacs: works again",
    ]


def test_work_at_a_destination_that_fails_at_once_each_time_is_one_line(
    caplog: pytest.LogCaptureFixture, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, tries = threading.Event(), []

    def work(*_: object) -> None:
        tries.append(1)
        if len(tries) == 5:
            stop.set()
        raise ValueError

    monkeypatch.setattr(destination_loop, "_RECONNECT_AFTER_S", 0.0)
    destination_loop.run_exclusively(database.url, "deliver", "pacs", work, stop)
    assert len(tries) == 5
    assert [each.split(";")[0] for each in caplog.messages] == ["deliver to pacs: it failed (ValueError)"]
