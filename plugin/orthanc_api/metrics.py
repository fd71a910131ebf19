"""Metrics that plugins set by SetMetricsValue; the node's /metrics shows them as glionode_plugin_NAME."""

import re
import threading
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_MOST = 1000


class PluginMetrics(Collector):
    """The latest values. Thread-safe."""

    def __init__(self) -> None:
        self._values: dict[str, float] = {}
        self._lock = threading.Lock()

    def set(self, name: str, value: float) -> bool:
        """False for a name that Prometheus does not take, and for more names than are sane; then nothing is kept."""
        with self._lock:
            if not _NAME.fullmatch(name) or (name not in self._values and len(self._values) >= _MOST):
                return False
            self._values[name] = value
        return True

    def values(self) -> list[tuple[str, float]]:
        """Names and values."""
        with self._lock:
            return sorted(self._values.items())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """For Prometheus."""
        for name, value in self.values():
            yield GaugeMetricFamily(f"glionode_plugin_{name}", "Set by a plugin.", value)
