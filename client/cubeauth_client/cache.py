"""Tickets that are always at hand.

One keeper per service id gets the first ticket, refreshes it well ahead of
its end, and tries again with growing delays where that fails; so there is
never more than one request for a service in flight, however many ask. While
the ticket held is good it serves, whatever happens to its successor.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from cubeauth import entropy as chance
from cubeauth.entropy import Entropy
from cubeauth.errors import CubeauthError, LocalMisuse
from cubeauth.exchange import TicketGrant
from cubeauth_client.errors import TicketUnavailable
from cubeauth_client.observer import ClientObserver
from cubeauth_client.retry import full_jitter, uniform
from cubeauth_runtime.clock import Clock
from cubeauth_runtime.tasks import OnDeath, TaskOwner

log = logging.getLogger("cubeauth.client")

Fetch = Callable[[str], Awaitable[TicketGrant]]
"""Gets a ticket for a service id, or raises a CubeauthError."""

MAX_SERVICES = 64
"""Service ids of one cache, each with a keeper; they come from configuration, and there are four."""


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """refresh_at, spread: a ticket is refreshed at this part of its life, give or take `spread` of it, so that pods that started
    together do not ask together. min_interval: seconds between two refreshes at least. base, ceiling: seconds, of the delay
    after failures."""

    refresh_at: float = 2 / 3
    spread: float = 0.1
    min_interval: float = 1.0
    base: float = 1.0
    ceiling: float = 60.0


def refresh_delay(settings: CacheSettings, life: float, entropy: Entropy) -> float:
    """Seconds until a ticket that is good for `life` seconds is refreshed."""
    part = settings.refresh_at - settings.spread + uniform(entropy, 2 * settings.spread)
    return max(settings.min_interval, life * part)


@dataclass(slots=True)
class _Kept:
    """What a keeper and those who ask share. settled: set while no request is in flight; wanted: wakes the keeper."""

    service_id: str
    grant: TicketGrant | None = None
    failures: int = 0
    problem: str = ""
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    wanted: asyncio.Event = field(default_factory=asyncio.Event)


class TicketCache:
    """A TicketSource for daemons. close() it; `on_death` hears of a keeper that died of a bug."""

    def __init__(
        self,
        fetch: Fetch,
        *,
        clock: Clock,
        on_death: OnDeath,
        entropy: Entropy = chance.system,
        settings: CacheSettings | None = None,
        observer: ClientObserver | None = None,
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._entropy = entropy
        self._settings = settings or CacheSettings()
        self._observer = observer or ClientObserver()
        self._tasks = TaskOwner(on_death)
        self._kept: dict[str, _Kept] = {}
        self._closed = False

    async def get(self, service_id: str) -> TicketGrant:
        """A ticket that is good now: at once if there is one, else after the request in flight.

        Raises TicketUnavailable where that failed, at once while the keeper waits before its next try.
        """
        kept = self._keep(service_id)
        if (grant := self._good(kept)) is not None:
            return grant
        if kept.settled.is_set() and not kept.failures:
            kept.settled.clear()
            kept.wanted.set()
        await kept.settled.wait()
        if (grant := self._good(kept)) is not None:
            return grant
        raise TicketUnavailable(service_id, kept.problem)

    def held(self, service_id: str) -> TicketGrant | None:
        """The ticket at hand if it is good now; never waits, never asks."""
        kept = self._kept.get(service_id)
        return None if kept is None else self._good(kept)

    def refresh(self, service_id: str) -> None:
        """Get a new ticket now, in the background; the one held serves meanwhile. A request in flight is the one meant."""
        kept = self._keep(service_id)
        if kept.settled.is_set():
            kept.wanted.set()

    def discard(self, grant: TicketGrant) -> bool:
        """Forget a ticket that a server refused, unless it has been replaced already."""
        kept = self._kept.get(grant.service_id)
        if kept is not None and kept.grant is grant:
            kept.grant = None
        return not self._closed

    async def close(self) -> None:
        """End the keepers; who still waits gets TicketUnavailable."""
        self._closed = True
        for kept in self._kept.values():
            # Not left to the keeper: one that never ran, because it was cancelled first, tells nobody.
            _end(kept, "the ticket cache was closed")
        await self._tasks.close()

    def _good(self, kept: _Kept) -> TicketGrant | None:
        return kept.grant if kept.grant is not None and self._clock.now() < kept.grant.exp else None

    def _keep(self, service_id: str) -> _Kept:
        if self._closed:
            raise LocalMisuse("the ticket cache is closed")
        kept = self._kept.get(service_id)
        if kept is None:
            if len(self._kept) >= MAX_SERVICES:
                raise LocalMisuse(f"more than {MAX_SERVICES} services in one ticket cache")
            kept = self._kept[service_id] = _Kept(service_id)
            self._tasks.start(f"tickets for {service_id}", self._run(kept))
        return kept

    async def _run(self, kept: _Kept) -> None:
        """The keeper of one service."""
        try:
            while True:
                kept.settled.clear()
                delay = await self._refresh(kept)
                kept.wanted.clear()
                kept.settled.set()
                with suppress(TimeoutError):
                    await asyncio.wait_for(kept.wanted.wait(), delay)
        finally:
            _end(kept, "its refresh ended with an internal error")

    async def _refresh(self, kept: _Kept) -> float:
        """Try once. Seconds until the next try."""
        try:
            grant = await self._fetch(kept.service_id)
        except CubeauthError as e:
            return self._failed(kept, e)
        kept.grant, kept.failures, kept.problem = grant, 0, ""
        self._observer.refreshed(kept.service_id, grant.exp)
        return refresh_delay(self._settings, grant.exp - self._clock.now(), self._entropy)

    def _failed(self, kept: _Kept, error: CubeauthError) -> float:
        kept.failures += 1
        delay = full_jitter(self._settings.base, self._settings.ceiling, kept.failures, self._entropy)
        kept.problem = str(error)
        good = self._good(kept)
        left = f"the one held is good for {good.exp - self._clock.now():.0f} s" if good else "none is held"
        log.warning("ticket for %s: refresh failed, next try in %.1f s, %s: %s", kept.service_id, delay, left, error)
        self._observer.refresh_failed(kept.service_id, delay)
        return delay


def _end(kept: _Kept, problem: str) -> None:
    """No keeper will answer any more."""
    kept.problem = kept.problem or problem
    kept.failures += 1
    kept.settled.set()
