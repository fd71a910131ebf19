"""Fixtures for tests of the node."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from plugin.database.pool import Database, running_database
from plugin.database.schema import migrate
from plugin.jobs.queue import JobQueue
from plugin.settings.sections import Settings
from tests.support.committing_pacs import CommittingPacs
from tests.support.listener import ListenerWithArchive
from tests.support.node import NodeInThread, Pacs, stand_in_node


def _memory_folder() -> Path | None:
    folder = Path("/dev/shm")
    return folder if os.access(folder, os.W_OK) else None


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A folder with a short path, for the database's socket; in memory if possible."""
    folder = Path(tempfile.mkdtemp(prefix="gn-", dir=_memory_folder()))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let the command line use the default settings and keep its files in the test's folder."""
    for name in os.environ:
        if name.startswith("GLIONODE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("GLIONODE_STORAGE__DATA_DIR", str(tmp_path / "data"))


@pytest.fixture
def make_node(data_dir: Path) -> Iterator[Callable[..., NodeInThread]]:
    """Make a node in the folder `data_dir`, see `stand_in_node`. It stops at the end of the test."""
    nodes: list[NodeInThread] = []

    def make(**sections: object) -> NodeInThread:
        nodes.append(stand_in_node(data_dir, **sections))
        return nodes[-1]

    yield make
    for node in nodes:
        node.end()


@pytest.fixture
def make_listener(tmp_path: Path) -> Iterator[Callable[..., ListenerWithArchive]]:
    """Make a listener with an archive in the test's folder. It stops at the end of the test."""
    made: list[ListenerWithArchive] = []

    def make(**settings: Any) -> ListenerWithArchive:
        made.append(ListenerWithArchive(tmp_path, **settings))
        return made[-1]

    yield make
    for each in made:
        each.listener.stop(2)


@pytest.fixture(scope="session")
def database_of_session() -> Iterator[Database]:
    """A PostgreSQL server for all tests of a session that need no whole node."""
    with (
        tempfile.TemporaryDirectory(prefix="gn-", dir=_memory_folder()) as folder,
        running_database(Settings(storage={"data_dir": folder})) as running,
    ):
        migrate(running.pool, alone=True)
        yield running


@pytest.fixture
def database(database_of_session: Database) -> Database:
    """The session's database, emptied of the rows of other tests."""
    with database_of_session.pool.connection() as connection:
        found = connection.execute(
            "SELECT string_agg(tablename, ', ') FROM pg_tables WHERE tablename ~ '^(glionode|procrastinate)_' "
            "AND tablename !~ '^glionode_(schema|identity)'"
        ).fetchone()
        assert found is not None
        connection.execute(f"TRUNCATE {found[0]} RESTART IDENTITY")
    return database_of_session


@pytest.fixture
def queue(database: Database) -> JobQueue:
    """The job queue of the database."""
    return JobQueue(database)


@pytest.fixture
def pacs() -> Iterator[Pacs]:
    """A C-STORE SCP on loopback that receives results."""
    made = Pacs()
    yield made
    made.stop()


@pytest.fixture
def committing_pacs() -> Iterator[CommittingPacs]:
    """A C-STORE SCP on loopback that supports storage commitment."""
    made = CommittingPacs()
    yield made
    made.stop()
