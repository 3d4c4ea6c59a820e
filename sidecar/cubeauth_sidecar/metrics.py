"""The sidecar's metrics. Label values come from the configuration and from closed sets, never from a peer."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

PREFIX = "cubeauth_sidecar"
HANDSHAKE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """One registry of our own, so that a process of tests may hold several."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.connections = self._counter(
            "connections", "connections by what became of them; over_limit: closed at accept", "listener", "outcome", "reason"
        )
        self.open = self._gauge("connections_open", "connections now, with those still opening", "listener")
        self.opening = self._gauge("connections_opening", "connections whose peer is not known yet", "listener")
        self.in_grace = self._gauge(
            "connections_in_grace", "connections that outlive their ticket because the Authnode does not answer", "listener"
        )
        self.graces = self._counter("graces", "times that a connection began to outlive its ticket", "listener")
        self.bytes = self._counter("bytes", "plaintext passed on", "listener", "direction")
        self.handshake = Histogram(
            f"{PREFIX}_handshake_seconds",
            "from the connection's arrival until its peer is known",
            ("listener",),
            buckets=HANDSHAKE_BUCKETS,
            registry=self.registry,
        )
        self.dial_failures = self._counter("dial_failures", "connections whose other end could not be reached", "listener")
        self.renewals = self._counter("renewals", "fresh tickets taken on open connections", "listener")
        self.truncations = self._counter("truncations", "streams of the peer that ended without their end", "listener")
        self.clear = self._gauge(
            "listener_clear", "1 where the listener's mode is clear: its bytes are neither hidden nor guarded", "listener"
        )
        self.ticket_issued = self._gauge("ticket_issued_timestamp_seconds", "when the ticket held was made", "service")
        self.ticket_age = self._gauge("ticket_age_seconds", "how old the ticket held is", "service")
        self.ticket_expiry = self._gauge("ticket_expiry_timestamp_seconds", "when the ticket held ends", "service")
        self.ticket_refreshes = self._counter("ticket_refreshes", "tickets that came", "service")
        self.ticket_refresh_failures = self._counter("ticket_refresh_failures", "tickets that did not come", "service")
        self.authnode_tries = self._counter("authnode_tries", "requests to an Authnode's endpoint", "endpoint", "outcome")
        self.authnode_silent = self._gauge("authnode_silent", "1 while our last try at the Authnode got no answer")
        self.audit_failures = self._counter("audit_failures", "times that audit lines could not be written, and were lost")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"{PREFIX}_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"{PREFIX}_{name}", text, labels, registry=self.registry)
