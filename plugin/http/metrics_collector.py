"""Collect metrics for Prometheus that are read at the moment of the request: checks, jobs, outbox, workers, files."""

import logging
import shutil
from collections.abc import Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from plugin.archive.quarantine import count_quarantined
from plugin.database.pool import Connection
from plugin.errors import DatabaseUnavailable
from plugin.http.database_probe import DatabaseProbe
from plugin.http.health import HealthCheck, count_live_workers, run_checks
from plugin.jobs.backlog import LATELY_H, read_backlog
from plugin.jobs.queries import count_deliveries_by_state, count_jobs_by_state
from plugin.listener.refusals import read_refusals
from plugin.logs import Outage
from plugin.settings.certificates import certificate_ends
from plugin.settings.sections import Settings

_LOG = logging.getLogger(__name__)


class NodeMetricsCollector(Collector):
    """Reads database and disk at each request. If the database does not answer, its metrics alone are missing."""

    def __init__(
        self, settings: Settings, probe: DatabaseProbe, checks: Mapping[str, HealthCheck], receives: bool
    ) -> None:
        self._settings = settings
        self._probe = probe
        self._checks = checks
        self._receives = receives
        self._outage = Outage(_LOG, "metrics")

    def describe(self) -> Iterable[Metric]:
        """Describe nothing, so that registering the collector reads no database."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics of this moment."""
        yield from self._files()
        if self._receives:
            refused = CounterMetricFamily("glionode_peers_refused", "Peers that were refused.", labels=["reason"])
            for reason, count in read_refusals(self._settings.data_dir).items():
                refused.add_metric([reason], count)
            yield refused
        ok = GaugeMetricFamily("glionode_check_ok", "1 where a check of /health finds nothing wrong.", labels=["check"])
        for name, wrong in run_checks(dict(self._checks)).checks.items():
            ok.add_metric([name], 0 if wrong else 1)
        yield ok
        found: list[Metric] = []
        try:
            found = self._probe.read(_of_database)
        except DatabaseUnavailable as exc:
            self._outage.failed(f"those of the database are missing: {exc}")
        else:
            self._outage.works()
        yield from found
        yield _gauge("glionode_database_up", "1 where the database answers.", 1 if found else 0)

    def _files(self) -> Iterable[Metric]:
        settings, data_dir = self._settings, self._settings.data_dir
        yield _gauge("glionode_free_bytes", "Free space of the data folder.", shutil.disk_usage(data_dir).free)
        minimum = settings.storage.minimum_free_mb << 20
        yield _gauge("glionode_minimum_free_bytes", "Below this much free space images are refused.", minimum)
        kept = count_quarantined(data_dir)
        yield _gauge("glionode_quarantined_files", "Kept copies of objects that do not parse.", kept)
        ends = GaugeMetricFamily(
            "glionode_certificate_expiry_timestamp_seconds",
            "When a certificate expires, seconds since 1970; 0 where it cannot be read.",
            labels=["key"],
        )
        for key, end in certificate_ends(settings).items():
            ends.add_metric([key], end.timestamp() if end is not None else 0)
        yield ends


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _of_database(connection: Connection) -> list[Metric]:
    workers = _gauge("glionode_workers", "Workers with a heartbeat lately.", count_live_workers(connection))
    return [*_jobs(connection), _outbox(connection), *_backlog(connection), workers]


def _jobs(connection: Connection) -> Iterable[Metric]:
    jobs = GaugeMetricFamily("glionode_jobs", "Jobs by state.", labels=["state"])
    for state, count in count_jobs_by_state(connection).items():
        jobs.add_metric([state], count)
    yield jobs


def _backlog(connection: Connection) -> Iterable[Metric]:
    backlog = read_backlog(connection)
    oldest = backlog.oldest_queued_s
    yield _gauge("glionode_oldest_queued_seconds", "Age of the job that waits longest; 0 where none waits.", oldest)
    failed = backlog.jobs_failed_lately
    yield _gauge("glionode_jobs_failed_lately", f"Jobs that failed in the last {LATELY_H} hours.", failed)
    if backlog.last_received_at is not None:
        at = backlog.last_received_at.timestamp()
        yield _gauge("glionode_last_reception_timestamp_seconds", "When images came last, seconds since 1970.", at)
    ages = GaugeMetricFamily(
        "glionode_oldest_delivery_seconds",
        "Age of the object that waits longest for a destination; 0 where none waits.",
        labels=["destination"],
    )
    for destination, each in backlog.deliveries.items():
        ages.add_metric([destination], each.oldest_waiting_s)
    yield ages


def _outbox(connection: Connection) -> Metric:
    objects = GaugeMetricFamily(
        "glionode_outbox_objects", "Objects by destination and state.", labels=["destination", "state"]
    )
    for destination, counts in count_deliveries_by_state(connection).items():
        for state, count in counts.items():
            objects.add_metric([destination, state], count)
    return objects
