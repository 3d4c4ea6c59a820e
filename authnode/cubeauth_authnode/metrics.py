"""The Authnode's metrics: the workers' counters on the board, and what the parent knows itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cubeauth_authnode.shared import Board, Counter

_COUNTERS = {
    Counter.TICKETS_GRANTED: ("tickets_granted", "tickets issued"),
    Counter.TICKETS_REFUSED: ("tickets_refused", "ticket requests refused, for any reason"),
    Counter.REPLAYS: ("replays", "proofs that had been seen before"),
    Counter.REPLAY_TABLE_FULL: ("replay_table_full", "requests refused because the replay table had no room"),
    Counter.CONNECTIONS_ACCEPTED: ("connections_accepted", "connections let in"),
    Counter.CONNECTIONS_REFUSED: ("connections_refused", "connections over the limit"),
    Counter.REQUESTS_MALFORMED: ("requests_malformed", "requests that were no HTTP or no message"),
    Counter.TIMEOUTS: ("timeouts", "connections closed because a request or an answer took too long"),
    Counter.ADMIN_FORWARDED: ("admin_requests", "admin requests"),
    Counter.WAITED_FOR_WRITE: ("waited_for_write", "answers that waited for a write to arrive"),
    Counter.OVERLOADED: ("overloaded", "admin requests refused because too many were under way"),
    Counter.TLS_FAILED: ("tls_failed", "TLS handshakes that failed"),
}

Gauges = Callable[[], dict[str, tuple[str, float]]]
"""What the parent knows: by name, an explanation and a value."""


class AuthnodeCollector(Collector):
    """Sums the workers' blocks at each scrape."""

    def __init__(self, board: Board, workers: int, gauges: Gauges) -> None:
        self._board = board
        self._workers = workers
        self._gauges = gauges

    def _sum(self, counter: Counter) -> int:
        return sum(self._board.block(worker)[counter] for worker in range(self._workers))

    def collect(self) -> Iterable[Metric]:
        for counter, (name, text) in _COUNTERS.items():
            yield CounterMetricFamily(f"cubeauth_authnode_{name}", text, value=self._sum(counter))
        yield GaugeMetricFamily(
            "cubeauth_authnode_connections_open", "connections now", value=self._sum(Counter.CONNECTIONS_OPEN)
        )
        for name, (text, value) in self._gauges().items():
            yield GaugeMetricFamily(f"cubeauth_authnode_{name}", text, value=value)


def make_registry(board: Board, workers: int, gauges: Gauges) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(AuthnodeCollector(board, workers, gauges))
    return registry
