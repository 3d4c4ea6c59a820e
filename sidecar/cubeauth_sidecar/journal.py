"""What is worth telling of connections: metrics for all, an audit line where strangers were judged, a log line elsewhere."""

from __future__ import annotations

import logging
from typing import Any

from cubeauth.errors import Reason
from cubeauth_runtime.audit import Audit
from cubeauth_runtime.clock import Clock
from cubeauth_sidecar.commands import End, Outcome, Record
from cubeauth_sidecar.events import Side
from cubeauth_sidecar.listeners import Listener, shown
from cubeauth_sidecar.metrics import Metrics

log = logging.getLogger("cubeauth.sidecar")

OVER_LIMIT = "over_limit"
_FINAL = frozenset({Outcome.REFUSED, Outcome.FAILED, Outcome.CLOSED})
_DIAL_FAILED = frozenset({End.PEER_DOWN, End.DAEMON_DOWN})


class Journal:
    """Takes every Record of every connection."""

    def __init__(self, metrics: Metrics, audit: Audit, clock: Clock) -> None:
        self._metrics = metrics
        self._audit = audit
        self._clock = clock

    def note(self, listener: Listener, origin: str, record: Record) -> None:
        """origin: address and port of who connected to us."""
        self._count(listener.name, record)
        if listener.strangers:
            self._audit_line(listener, origin, record)
        elif record.outcome in _FINAL:
            level = logging.DEBUG if record.outcome is Outcome.CLOSED else logging.WARNING
            log.log(level, "connection %s", record.outcome, extra=_facts(listener, record) | {"to": shown(listener.target)})

    def turned_away(self, listener: Listener, why: str) -> None:
        """A connection over a limit: counted, and no line each, which would be another way to fill our disk."""
        self._metrics.connections.labels(listener.name, OVER_LIMIT, why).inc()

    def passed(self, listener: Listener, from_peer: int, to_peer: int) -> None:
        """More plaintext bytes went through."""
        self._metrics.bytes.labels(listener.name, "from_peer").inc(from_peer)
        self._metrics.bytes.labels(listener.name, "to_peer").inc(to_peer)

    def _count(self, name: str, record: Record) -> None:
        if record.outcome is Outcome.RENEWED:
            self._metrics.renewals.labels(name).inc()
            return
        if record.outcome is Outcome.GRACE:
            self._metrics.graces.labels(name).inc()
            return
        self._metrics.connections.labels(name, record.outcome.value, record.reason.value if record.reason else "").inc()
        if record.outcome is Outcome.ACCEPTED:
            self._metrics.handshake.labels(name).observe(max(0.0, record.seconds))
        if record.reason in _DIAL_FAILED:
            self._metrics.dial_failures.labels(name).inc()
        if record.reason is Reason.TRUNCATED:
            self._metrics.truncations.labels(name).inc()

    def _audit_line(self, listener: Listener, origin: str, record: Record) -> None:
        try:
            self._audit.write("connection", record.outcome, origin, self._clock.now(), **_facts(listener, record))
        except OSError as e:
            self.audit_failed(e)

    def flush(self) -> None:
        try:
            self._audit.flush()
        except OSError as e:
            self.audit_failed(e)

    def audit_failed(self, error: OSError) -> None:
        """Connections go on: storage that stops because a log's disk is full helps nobody. It is loud instead."""
        self._metrics.audit_failures.inc()
        log.error("audit lines were lost: %s", error.strerror)


def _facts(listener: Listener, record: Record) -> dict[str, Any]:
    """client: who has proven to be it; claimed: who only says so."""
    facts: dict[str, Any] = {"listener": listener.name}
    if record.reason is not None:
        facts["reason"] = record.reason.value
    if record.detail and record.detail != facts.get("reason"):
        facts["detail"] = record.detail
    if record.peer and listener.came is Side.PEER:
        facts["client" if record.proven else "claimed"] = record.peer
    if record.jti:
        facts["jti"] = record.jti
    if record.outcome in _FINAL and record.proven:
        facts |= {"from_peer": record.from_peer, "to_peer": record.to_peer, "seconds": round(record.seconds, 3)}
    return facts
