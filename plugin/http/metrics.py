"""Count events of a process for Prometheus. No UID, AE title or text of a header may become a label."""

from prometheus_client import CollectorRegistry, Counter, Histogram

from plugin.listener.c_store_handler import REASONS, SUCCESS

_STEP_BUCKETS_S = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 900)


class Metrics:
    """The counters of a process. Thread-safe."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self.worker_deaths = Counter(
            "glionode_worker_deaths", "Worker processes that ended unexpectedly or were killed.", registry=self.registry
        )
        self._received = Counter(
            "glionode_instances_received", "Instances that were acknowledged.", registry=self.registry
        )
        self._received_bytes = Counter("glionode_received_bytes", "Bytes of these.", registry=self.registry)
        self._refused = Counter(
            "glionode_instances_refused", "Instances that were refused.", ["reason"], registry=self.registry
        )
        for reason in REASONS.values():
            self._refused.labels(reason)
        self._steps = Histogram(
            "glionode_step_seconds", "Steps of jobs.", ["step"], buckets=_STEP_BUCKETS_S, registry=self.registry
        )

    def count_c_store(self, status: int, size_bytes: int) -> None:
        """Count a C-STORE response by its status, and the bytes of an acknowledged instance."""
        if status == SUCCESS:
            self._received.inc()
            self._received_bytes.inc(size_bytes)
        else:
            self._refused.labels(REASONS.get(status, "other")).inc()

    def observe_step(self, step: str, seconds: float) -> None:
        """Record how long a step of a job took."""
        self._steps.labels(step).observe(seconds)
