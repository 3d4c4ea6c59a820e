"""Our key's tickets, and what we know of the Authnode: whether it answers, and whether our service keys are the ones it has."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from cubeauth import ticket
from cubeauth.entropy import Entropy
from cubeauth.errors import AuthenticationFailed
from cubeauth.exchange import TicketGrant
from cubeauth_client import tls
from cubeauth_client.authnode import Authnode
from cubeauth_client.cache import TicketCache
from cubeauth_client.endpoints import EndpointSet
from cubeauth_client.errors import AuthnodeUnreachable
from cubeauth_client.observer import ClientObserver
from cubeauth_client.tickets import get_ticket
from cubeauth_runtime.clock import Clock
from cubeauth_runtime.tasks import OnDeath
from cubeauth_sidecar.config import SidecarConfig
from cubeauth_sidecar.metrics import Metrics

log = logging.getLogger("cubeauth.sidecar")

ASK_GAP = 15.0
"""Seconds between two tries that connections ask for, however many ask."""


class _Counting(ClientObserver):
    def __init__(self, metrics: Metrics, on_ticket: Callable[[str], None]) -> None:
        self._metrics = metrics
        self._on_ticket = on_ticket

    def tried(self, endpoint: str, outcome: str) -> None:
        self._metrics.authnode_tries.labels(endpoint, str(outcome)).inc()

    def refreshed(self, service_id: str, good_until: float) -> None:
        self._metrics.ticket_refreshes.labels(service_id).inc()
        self._metrics.ticket_expiry.labels(service_id).set(good_until)
        self._on_ticket(service_id)

    def refresh_failed(self, service_id: str, _delay: float) -> None:
        self._metrics.ticket_refresh_failures.labels(service_id).inc()


class Credentials:
    """Keeps a ticket for each service of the configuration; start() and close() it. on_ticket: told of each that came, at once.

    The services of connect entries are what we dial with. For those of accept entries a ticket of our own shows that the
    Authnode answers, and, as our key must open it, that both have the same key.
    """

    def __init__(self, config: SidecarConfig, metrics: Metrics, *, clock: Clock, entropy: Entropy, on_death: OnDeath) -> None:
        """Raises InputError for a CA file that cannot be used."""
        self._id, self._key = config.client_id, config.key
        self._clock = clock
        self._metrics = metrics
        self._dialled = {entry.service for entry in config.connect}
        self._guarded = {entry.service: entry.service_key for entry in config.accept}
        self._foreign: set[str] = set()
        self._known: set[str] = set()
        self._unanswered: float | None = None
        self._tried = -math.inf
        context = tls.client_context(config.authnode.ca_file) if config.authnode.ca_file else None
        self.on_ticket: Callable[[str], None] = lambda _service: None
        observer = _Counting(metrics, self._ticket_came)
        self._authnode = Authnode(
            EndpointSet(config.authnode.endpoints), clock=clock, entropy=entropy, tls_context=context, observer=observer
        )
        self._cache = TicketCache(self._fetch, clock=clock, on_death=on_death, entropy=entropy, observer=observer)

    def start(self) -> None:
        for service in self._services():
            self._cache.refresh(service)

    async def close(self) -> None:
        await self._cache.close()

    def held(self, service: str) -> TicketGrant | None:
        """A ticket that is good now, without waiting."""
        return self._cache.held(service)

    async def get(self, service: str) -> TicketGrant:
        """A ticket that is good now. Raises TicketUnavailable."""
        return await self._cache.get(service)

    def ask(self, service: str) -> None:
        """Try the Authnode now, for a new ticket and to know whether it answers; not more often than every ASK_GAP."""
        if self._clock.monotonic() - self._tried >= ASK_GAP:
            self._cache.refresh(service)

    def unanswered_try(self) -> float | None:
        """Unix seconds of our last try at the Authnode if that got no answer (cubeauth.lifetime)."""
        return self._unanswered

    def problem(self) -> str:
        """Why we are not ready, in one line; "" when we are."""
        for service in sorted(self._dialled):
            if self._cache.held(service) is None:
                return f"no ticket for {service}"
        for service in sorted(self._guarded):
            if service in self._foreign:
                return f"the Authnode has another key for {service} than this sidecar"
            if service not in self._known:
                return f"no word of the Authnode about {service} yet"
        return ""

    def collect(self) -> None:
        """Bring the tickets' gauges up to date."""
        self._metrics.authnode_silent.set(self._unanswered is not None)
        for service in self._services():
            if (grant := self._cache.held(service)) is not None:
                self._metrics.ticket_issued.labels(service).set(grant.c_time)
                self._metrics.ticket_age.labels(service).set(self._clock.now() - grant.c_time)

    def _services(self) -> list[str]:
        return sorted(self._dialled | self._guarded.keys())

    def _ticket_came(self, service: str) -> None:
        self.on_ticket(service)

    async def _fetch(self, service: str) -> TicketGrant:
        self._tried = self._clock.monotonic()
        try:
            grant = await get_ticket(self._authnode, self._id, self._key, service)
        except AuthnodeUnreachable:
            self._unanswered = self._clock.now()
            raise
        except Exception:
            self._unanswered = None
            raise
        self._unanswered = None
        self._compare_keys(service, grant)
        return grant

    def _compare_keys(self, service: str, grant: TicketGrant) -> None:
        key = self._guarded.get(service)
        if key is None:
            return
        self._known.add(service)
        try:
            ticket.open_(key.reveal(), grant.ticket)
            self._foreign.discard(service)
        except AuthenticationFailed:
            self._foreign.add(service)
            log.error("every peer will be refused: the Authnode has another key for %s than this sidecar", service)
