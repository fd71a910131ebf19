"""Collect metrics for Prometheus that are read at the moment of the request: jobs, outbox, workers and disk."""

import logging
import shutil
from collections.abc import Iterable
from pathlib import Path

import psycopg
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from psycopg_pool import ConnectionPool, PoolTimeout

from plugin.http.health import count_live_workers
from plugin.jobs.queries import count_deliveries_by_state, count_jobs_by_state
from plugin.listener.refusals import read_refusals

_LOG = logging.getLogger(__name__)

_DATABASE_TIMEOUT_S = 1.0


class NodeMetricsCollector(Collector):
    """Reads database and disk at each request. If the database does not answer, its metrics alone are missing."""

    def __init__(self, pool: ConnectionPool, data_dir: Path, receives: bool) -> None:
        self._pool = pool
        self._data_dir = data_dir
        self._receives = receives

    def describe(self) -> Iterable[Metric]:
        """Describe nothing, so that registering the collector reads no database."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics of this moment."""
        yield _gauge("glionode_free_bytes", "Free space of the data folder.", shutil.disk_usage(self._data_dir).free)
        if self._receives:
            refused = CounterMetricFamily("glionode_peers_refused", "Peers that were refused.", labels=["reason"])
            for reason, count in read_refusals(self._data_dir).items():
                refused.add_metric([reason], count)
            yield refused
        found: list[Metric] = []
        try:
            with self._pool.connection(timeout=_DATABASE_TIMEOUT_S) as connection:
                found = [*_jobs(connection), _outbox(connection)]
                found.append(
                    _gauge("glionode_workers", "Workers with a heartbeat lately.", count_live_workers(connection))
                )
        except (psycopg.Error, PoolTimeout) as exc:
            _LOG.warning("metrics lack those of the database, which does not answer (%s)", type(exc).__name__)
        yield from found
        yield _gauge("glionode_database_up", "1 where the database answers.", 1 if found else 0)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _jobs(connection: psycopg.Connection) -> Iterable[Metric]:
    jobs = GaugeMetricFamily("glionode_jobs", "Jobs by state.", labels=["state"])
    for state, count in count_jobs_by_state(connection).items():
        jobs.add_metric([state], count)
    yield jobs
    row = connection.execute(
        "SELECT coalesce(extract(epoch FROM now() - min(created_at)), 0) FROM glionode_jobs WHERE state = 'queued'"
    ).fetchone()
    age = float(row[0]) if row else 0.0
    yield _gauge("glionode_oldest_queued_seconds", "Age of the job that waits longest; 0 where none waits.", age)


def _outbox(connection: psycopg.Connection) -> Metric:
    objects = GaugeMetricFamily(
        "glionode_outbox_objects", "Objects by destination and state.", labels=["destination", "state"]
    )
    for destination, counts in count_deliveries_by_state(connection).items():
        for state, count in counts.items():
            objects.add_metric([destination, state], count)
    return objects
