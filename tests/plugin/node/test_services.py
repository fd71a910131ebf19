"""The services in processes of their own without a shared disk, as `glionode listen`, `work` and `deliver` run them."""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from pipeline.errors import SettingsWrong
from plugin.database.lease import acquire
from plugin.database.pool import Database
from plugin.http.database_probe import DatabaseProbe
from plugin.http.health import check_database, check_deliveries, check_free_space, check_workers, seconds_since
from plugin.http.metrics_collector import NodeMetricsCollector
from plugin.listener.listener import Address
from plugin.node.lock import running_node
from plugin.node.run import deliver, listen, serve, work
from plugin.settings.sections import Settings
from tests.support.node import Pacs, make_instance, new_study_uid, query, send, wait_until, write_model
from tests.support.stand_in_segmenter import make_stand_in

TOKEN = "a-token-of-the-tests-alone"


class Services:
    """The services of a node in threads, each with a data folder of its own, on one database."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.folder = folder
        self.controls = folder / "controls"
        self.controls.mkdir()
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
        return self._start(partial(work, self.settings(name), partial(make_stand_in, self.controls)))

    def deliver(self) -> threading.Event:
        return self._start(partial(deliver, self.settings("deliver")))

    def health(self) -> dict[str, str]:
        try:
            answer = urllib.request.urlopen(f"{self.http_url}/health", timeout=10)
        except urllib.error.HTTPError as exc:
            answer = exc
        with answer:
            body = json.loads(answer.read())
        checks: dict[str, str] = body["checks"]
        assert (body["status"] == "failing") == (answer.status == 503)
        assert (answer.status == 200) == (set(checks.values()) == {"ok"})
        return checks

    def files(self, name: str) -> list[str]:
        root = self.folder / name
        found = [path.relative_to(root) for path in root.rglob("*.*") if path.is_file()]
        return sorted(str(path) for path in found if path.parts[0] != "logs")

    def _start(self, service: Callable[..., None]) -> threading.Event:
        stop = threading.Event()
        failures: list[BaseException] = []

        def run() -> None:
            try:
                service(stop=stop)
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
            assert not thread.is_alive(), "a service does not stop"
            assert failures == []


@pytest.fixture
def services(database: Database, data_dir: Path, pacs: Pacs) -> Iterator[Services]:
    made = Services(database, data_dir)
    made.destinations = [pacs.destination()]
    yield made
    made.end()


def test_services_without_a_shared_disk_do_what_one_node_does(
    services: Services, pacs: Pacs, database: Database
) -> None:
    services.listen()
    services.work()
    services.deliver()
    study = new_study_uid()
    send(services.port, *(make_instance(study, number=number) for number in (1, 2, 3)))
    wait_until(lambda: sorted(pacs.received) == [f"{study}.99.1", f"{study}.99.2"], "both results at the PACS")
    kept = [name for name in services.files("listen") if name.startswith("results")]
    assert [Path(name).name for name in kept] == ["1.dcm", "2.dcm", "report.json"], "the archive has the results"
    wait_until(lambda: services.files("work") + services.files("deliver") == [], "the others keep no files")
    with psycopg.connect(database.url) as connection:
        (path,) = connection.execute("SELECT results_path FROM glionode_jobs").fetchone() or ("",)
    assert services.folder / "listen" / kept[0] == Path(path) / "1.dcm"


@pytest.mark.parametrize("service", [listen, deliver, partial(work, make_segment=make_stand_in)])
def test_a_single_service_without_a_database_server_is_refused(service: Callable[..., None], data_dir: Path) -> None:
    settings = Settings(storage={"data_dir": str(data_dir / "data")})
    with pytest.raises(SettingsWrong, match=r"database\.url is empty.*glionode serve"):
        service(settings)
    assert not (data_dir / "data").exists(), "nothing was started"


def test_a_second_archive_on_one_database_is_refused(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plugin.database.lease.RENEW_EVERY_S", 0.1)
    services.listen()
    with pytest.raises(SettingsWrong, match="receives with this database"):
        listen(services.settings("another"))


def test_an_archive_takes_over_from_one_that_is_not_heard_of_and_that_one_ends(
    services: Services, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plugin.database.lease.RENEW_EVERY_S", 0.1)
    with psycopg.connect(database.url, autocommit=True) as connection:  # of a host that vanished
        assert acquire(connection, "receive", threading.Event()) is not None
    query(database, "UPDATE glionode_leases SET owner = 'elsewhere', expires_at = now() + interval '0.7 s'")
    services.listen()
    query(database, "UPDATE glionode_leases SET owner = 'elsewhere'")
    (_, stop, failures) = services._running[-1]
    wait_until(lambda: failures, "the one whose lease was taken ends by itself")
    assert stop.is_set()
    assert isinstance(failures[0], SettingsWrong)
    assert "stop the other one" in str(failures.pop())


def test_both_ends_of_every_session_notice_that_the_other_vanished(services: Services, database: Database) -> None:
    services.listen()
    services.work()
    pacs = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 1, "storage_commitment": True}
    services.destinations = [pacs]
    services.deliver()

    def sessions() -> list[str]:
        rows = query(
            database, "SELECT application_name FROM pg_stat_activity WHERE datname = current_database() ORDER BY 1"
        )
        return [name for (name,) in rows]

    # Two threads for the destination, each with its lease, and the pools of three processes and of the queue.
    wait_until(lambda: len(sessions()) >= 8, "all services have their sessions")
    names = {name.split()[0] for name in sessions()}
    assert names == {"glionode"}, "all are made from the connection string that has the options"
    with database.pool.connection() as connection:
        client = connection.info.get_parameters()
        server = dict(
            connection.execute(
                # On this Unix socket the settings for TCP are not in force; those of a new connection stand here.
                "SELECT name, reset_val FROM pg_settings WHERE name ~ 'tcp_|idle_in_trans' AND source = 'client'"
            ).fetchall()
        )
    assert client["connect_timeout"] == "5"
    for idle, interval, count, timeout in (
        [client[f"keepalives_{what}"] for what in ("idle", "interval", "count")] + [client["tcp_user_timeout"]],
        [server[f"tcp_keepalives_{what}"] for what in ("idle", "interval", "count")] + [server["tcp_user_timeout"]],
    ):
        assert int(idle) + int(interval) * int(count) <= 30
        assert 0 < int(timeout) <= 30_000, "milliseconds"
    assert 0 < int(server["idle_in_transaction_session_timeout"]) <= 120_000


def test_a_whole_node_with_a_remote_archive_is_refused(services: Services) -> None:
    services.http_url = "http://127.0.0.1:9"
    with pytest.raises(SettingsWrong, match=r"http\.archive_url is for"):
        serve(services.settings("serve"), make_stand_in)


def test_each_service_reports_its_health(services: Services) -> None:
    services.listen()
    assert sorted(services.health()) == ["database", "deliveries", "disk", "listener", "worker"]
    assert services.health()["worker"].startswith("No worker has sent a heartbeat"), "none runs yet"
    services.work()
    wait_until(lambda: set(services.health().values()) == {"ok"}, "a worker was seen, and the node is healthy")


def test_a_database_that_does_not_answer_is_reported(tmp_path: Path) -> None:
    probe = DatabaseProbe("host=127.0.0.1 port=1 dbname=none")
    assert "cannot be reached" in (check_database(probe) or "")
    assert "does not answer" in (check_workers(probe) or "")
    assert "does not answer" in (check_deliveries(probe, ["pacs"]) or "")
    assert seconds_since(probe, ["pacs"]).keys() == {"database_answered"}
    assert "free, the minimum is" in (check_free_space(tmp_path, 1 << 40) or "")
    assert check_free_space(tmp_path, 0) is None
    registry = CollectorRegistry()
    registry.register(NodeMetricsCollector(Settings(storage={"data_dir": str(tmp_path)}), probe, {}, receives=True))
    shown = generate_latest(registry).decode()
    assert "glionode_database_up 0.0" in shown
    assert "glionode_free_bytes" in shown
    assert "glionode_jobs" not in shown
