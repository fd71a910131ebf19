"""Receiving, work and delivery apart, without a shared disk: what `glionode listen`, `work` and `deliver` run."""

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest
from node_trial import Pacs, make_instance, new_study_uid, send, wait_until, write_model
from stand_in_segmenter import make_stand_in

from pipeline.errors import SettingsWrong
from plugin.database import Database
from plugin.listener import Address
from plugin.node import deliver, listen, work
from plugin.node_lock import running_node
from plugin.settings import Settings

TOKEN = "a-token-of-the-tests-alone"


class Parts:
    """The processes of a node as threads, each with a data folder of its own, on one database."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.folder = folder
        self.orders = folder / "orders"
        self.orders.mkdir()
        self.token_file = folder / "token"
        self.token_file.write_text(TOKEN + "\n")
        write_model(folder / "models" / "stand-in")
        self.url = database.url
        self.port = 0
        self.http_url = ""
        self.destinations: list[dict[str, object]] = []
        self._running: list[tuple[threading.Thread, threading.Event, list[BaseException]]] = []

    def settings(self, name: str, **sections: object) -> Settings:
        values: dict[str, object] = {
            "listener": {"port": 0},
            "storage": {"data_dir": str(self.folder / name), "minimum_free_mb": 0},
            "study": {"stable_after_s": 0.3},
            "model": {"name": "stand-in", "installed_dir": str(self.folder / "models")},
            "database": {"url": self.url},
            "delivery": {"retry_first_s": 0.2, "retry_longest_s": 0.5, "timeout_s": 10},
            "http": {"archive_url": self.http_url, "token_file": str(self.token_file)},
            "shutdown": {"drain_s": 5},
            "destinations": self.destinations,
        }
        return Settings(**{**values, **sections})

    def listen(self) -> threading.Event:
        ready = threading.Event()

        def on_ready(address: Address) -> None:
            self.port = address.port
            ready.set()

        http = {"enabled": True, "port": 0, "token_file": str(self.token_file)}
        settings = self.settings("listen", http=http)
        stop = self._start(partial(listen, settings, on_ready=on_ready))
        wait_until(ready.is_set, "it listens")
        node = running_node(settings.data_dir)
        assert node is not None
        self.http_url = node.http_url
        return stop

    def work(self, name: str = "work") -> threading.Event:
        return self._start(partial(work, self.settings(name), partial(make_stand_in, self.orders)))

    def deliver(self) -> threading.Event:
        return self._start(partial(deliver, self.settings("deliver")))

    def files(self, name: str) -> list[str]:
        root = self.folder / name
        return sorted(str(path.relative_to(root)) for path in root.rglob("*.*") if path.is_file())

    def _start(self, part: Callable[..., None]) -> threading.Event:
        stop = threading.Event()
        failures: list[BaseException] = []

        def run() -> None:
            try:
                part(stop=stop)
            except BaseException as exc:  # noqa: BLE001 - raised again in the test's own thread
                failures.append(exc)

        thread = threading.Thread(target=run)
        thread.start()
        self._running.append((thread, stop, failures))
        return stop

    def end(self) -> None:
        for _, stop, _ in self._running:
            stop.set()
        for thread, _, failures in self._running:
            thread.join(30)
            assert not thread.is_alive(), "a part does not end"
            assert failures == []


@pytest.fixture
def parts(database: Database, data_dir: Path, pacs: Pacs) -> Iterator[Parts]:
    with database.pool.connection() as connection:
        connection.execute("TRUNCATE glionode_jobs, glionode_troubles, glionode_audit, procrastinate_jobs CASCADE")
    made = Parts(database, data_dir)
    made.destinations = [pacs.destination()]
    yield made
    made.end()


def test_three_parts_without_a_shared_disk_do_what_one_node_does(parts: Parts, pacs: Pacs, database: Database) -> None:
    parts.listen()
    parts.work()
    parts.deliver()
    study = new_study_uid()
    send(parts.port, *(make_instance(study, number=number) for number in (1, 2, 3)))
    wait_until(lambda: sorted(pacs.received) == [f"{study}.99.1", f"{study}.99.2"], "both results at the PACS")
    kept = [name for name in parts.files("listen") if name.startswith("results")]
    assert [Path(name).name for name in kept] == ["1.dcm", "2.dcm", "report.json"], "the results lie at the archive"
    assert [name for name in parts.files("work") + parts.files("deliver") if name.endswith(".dcm")] == []
    with psycopg.connect(database.url) as connection:
        (path,) = connection.execute("SELECT results_path FROM glionode_jobs").fetchone() or ("",)
    assert parts.folder / "listen" / kept[0] == Path(path) / "1.dcm"


@pytest.mark.parametrize("part", [listen, deliver, partial(work, make_segment=make_stand_in)])
def test_a_part_without_a_database_server_is_refused(part: Callable[..., None], data_dir: Path) -> None:
    settings = Settings(storage={"data_dir": str(data_dir / "data")})
    with pytest.raises(SettingsWrong, match=r"database\.url is empty.*glionode serve"):
        part(settings)
    assert not (data_dir / "data").exists(), "nothing was started"
