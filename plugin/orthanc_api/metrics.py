"""Metrics that a hosted plugin sets by SetMetricsValue; the node's /metrics shows them as glionode_plugin_NAME."""

import re
import threading
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_MOST = 1000


class PluginMetrics(Collector):
    """The latest value of each metric. Thread-safe."""

    def __init__(self) -> None:
        self._values: dict[str, float] = {}
        self._lock = threading.Lock()

    def set(self, name: str, value: float) -> bool:
        """Set a value; False, and nothing set, for an invalid name or more than 1000 names."""
        with self._lock:
            if not _NAME.fullmatch(name) or (name not in self._values and len(self._values) >= _MOST):
                return False
            self._values[name] = value
        return True

    def values(self) -> list[tuple[str, float]]:
        """Return names and values, sorted by name."""
        with self._lock:
            return sorted(self._values.items())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the metrics for Prometheus."""
        for name, value in self.values():
            yield GaugeMetricFamily(f"glionode_plugin_{name}", "Set by a plugin.", value)
