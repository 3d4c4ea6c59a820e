"""The ticket cache, over a fake Authnode: one request in flight, refresh ahead, the old ticket serves, failures back off."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from tests.support import fake_authnode as fakes
from tests.support.fake_authnode import FakeAuthnode
from tests.support.waiting import until

from cubeauth import entropy
from cubeauth.errors import LocalMisuse
from cubeauth.exchange import TicketGrant
from cubeauth_client.authnode import Authnode
from cubeauth_client.cache import MAX_SERVICES, CacheSettings, TicketCache
from cubeauth_client.endpoints import EndpointSet, parse_endpoints
from cubeauth_client.errors import TicketUnavailable
from cubeauth_client.observer import ClientObserver
from cubeauth_client.retry import RetryPolicy
from cubeauth_client.tickets import get_ticket
from cubeauth_runtime.clock import OffsetClock

SERVICE = "MasterService"
LAZY = CacheSettings()
"""Of a 1 h ticket: nothing happens within a test unless asked for."""

EAGER = CacheSettings(refresh_at=0.00001, spread=0.0, min_interval=0.02, base=0.02, ceiling=0.04)
"""A refresh every 36 ms, a try after a failure within 40."""


class Events(ClientObserver):
    def __init__(self) -> None:
        self.good = 0
        self.failed: list[float] = []

    def refreshed(self, service_id: str, good_until: float) -> None:
        self.good += 1

    def refresh_failed(self, service_id: str, delay: float) -> None:
        self.failed.append(delay)


class Site:
    """A fake Authnode, a client, a cache."""

    def __init__(self, settings: CacheSettings) -> None:
        self.clock = OffsetClock(0.0)
        self.fake = FakeAuthnode(entropy.system(32), clock=self.clock)
        self.reader = self.fake.add(fakes.record("reader"))
        self.fake.add(fakes.record(SERVICE))
        self.fake.add(fakes.record("DatanodeService"))
        self.events = Events()
        self.deaths: list[str] = []
        self.settings = settings

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncIterator[Site]:
        await self.fake.start()
        endpoints = EndpointSet(parse_endpoints(self.fake.address))
        policy = RetryPolicy(rounds=1)
        authnode = Authnode(endpoints, clock=self.clock, policy=policy)
        self.cache = TicketCache(
            lambda service: get_ticket(authnode, "reader", self.reader.auth_key, service),
            clock=self.clock,
            on_death=lambda name, _error: self.deaths.append(name),
            settings=self.settings,
            observer=self.events,
        )
        yield self
        await self.cache.close()
        await self.fake.stop()
        assert self.deaths == []

    @property
    def asked(self) -> int:
        return len(self.fake.seen)


@pytest.fixture
async def lazy() -> AsyncIterator[Site]:
    async with Site(LAZY).run() as site:
        yield site


@pytest.fixture
async def eager() -> AsyncIterator[Site]:
    async with Site(EAGER).run() as site:
        yield site


async def test_however_many_ask_one_request_is_in_flight(lazy: Site) -> None:
    gate = asyncio.Event()
    lazy.fake.faults.append(fakes.hold(gate))
    asking = [asyncio.ensure_future(lazy.cache.get(SERVICE)) for _ in range(50)]
    await until("the request to reach the server", lambda: lazy.asked == 1)
    gate.set()
    grants = await asyncio.gather(*asking)
    assert all(grant is grants[0] for grant in grants)
    assert lazy.asked == 1


async def test_each_service_has_a_ticket_of_its_own(lazy: Site) -> None:
    assert (await lazy.cache.get(SERVICE)).service_id == SERVICE
    assert (await lazy.cache.get("DatanodeService")).service_id == "DatanodeService"
    assert lazy.asked == 2


async def test_a_ticket_is_refreshed_ahead_without_being_asked_for(eager: Site) -> None:
    first = await eager.cache.get(SERVICE)
    await until("two refreshes", lambda: eager.events.good >= 3)
    assert (await eager.cache.get(SERVICE)) is not first


async def test_while_a_refresh_fails_the_old_ticket_serves(eager: Site, caplog: pytest.LogCaptureFixture) -> None:
    first = await eager.cache.get(SERVICE)
    eager.fake.always = fakes.drop
    await until("three failures", lambda: len(eager.events.failed) >= 3)
    held = await eager.cache.get(SERVICE)
    assert held.exp >= first.exp
    assert "the one held is good for 3" in caplog.text
    eager.fake.always = None
    before = eager.events.good
    await until("a refresh after the failures", lambda: eager.events.good > before)


async def test_an_expired_ticket_never_serves(eager: Site) -> None:
    await eager.cache.get(SERVICE)
    eager.fake.always = fakes.drop
    await until("a failure", lambda: len(eager.events.failed) >= 1)
    eager.clock.offset += 3601
    assert eager.cache.held(SERVICE) is None
    with pytest.raises(TicketUnavailable, match=r"no ticket for MasterService: no Authnode gave an answer"):
        await eager.cache.get(SERVICE)


async def test_a_clock_that_jumps_past_the_end_brings_a_new_ticket(lazy: Site) -> None:
    """The keeper sleeps for 40 minutes: whoever asks wakes it."""
    first = await lazy.cache.get(SERVICE)
    lazy.clock.offset += 4000
    second = await lazy.cache.get(SERVICE)
    assert second is not first
    assert second.exp > lazy.clock.now()


async def test_after_a_failure_who_asks_is_told_at_once_and_nothing_is_sent(lazy: Site) -> None:
    lazy.cache._entropy = lambda count: b"\xff" * count
    lazy.fake.always = fakes.drop
    for _ in range(5):
        with pytest.raises(TicketUnavailable, match="closed without a reply"):
            await lazy.cache.get(SERVICE)
    assert lazy.asked == 1


async def test_delays_after_failures_grow_to_a_bound() -> None:
    site = Site(CacheSettings(base=0.01, ceiling=0.08))
    async with site.run():
        site.cache._entropy = lambda count: b"\xff" * count
        site.fake.always = fakes.drop
        with pytest.raises(TicketUnavailable):
            await site.cache.get(SERVICE)
        await until("six failures", lambda: len(site.events.failed) >= 6)
    assert site.events.failed[:6] == pytest.approx([0.01, 0.02, 0.04, 0.08, 0.08, 0.08], rel=1e-6)


async def test_a_refused_ticket_is_replaced_when_next_asked_for(lazy: Site) -> None:
    first = await lazy.cache.get(SERVICE)
    assert lazy.cache.discard(first)
    second = await lazy.cache.get(SERVICE)
    assert second is not first
    lazy.cache.discard(first)  # refused late: its successor stays
    assert await lazy.cache.get(SERVICE) is second
    assert lazy.asked == 2


async def test_who_waits_is_told_when_the_cache_closes(lazy: Site) -> None:
    lazy.fake.always = fakes.silence
    waiting = asyncio.ensure_future(lazy.cache.get(SERVICE))
    await until("the request to reach the server", lambda: lazy.asked == 1)
    await lazy.cache.close()
    with pytest.raises(TicketUnavailable, match="the ticket cache was closed"):
        await waiting
    with pytest.raises(LocalMisuse):
        await lazy.cache.get(SERVICE)


async def test_a_caller_that_gives_up_does_not_end_the_request_for_the_others(lazy: Site) -> None:
    gate = asyncio.Event()
    lazy.fake.faults.append(fakes.hold(gate))
    first, second = (asyncio.ensure_future(lazy.cache.get(SERVICE)) for _ in range(2))
    await until("the request to reach the server", lambda: lazy.asked == 1)
    first.cancel()
    gate.set()
    assert (await second).service_id == SERVICE
    assert first.cancelled()


async def test_a_bug_in_a_keeper_is_reported_and_ends_nobodys_wait_in_silence() -> None:
    deaths: list[str] = []

    async def broken(_service: str) -> TicketGrant:
        raise ZeroDivisionError

    cache = TicketCache(broken, clock=OffsetClock(0), on_death=lambda name, _e: deaths.append(name))
    with pytest.raises(TicketUnavailable, match="internal error"):
        await cache.get(SERVICE)
    await until("the death to be told", lambda: deaths == ["tickets for MasterService"])
    await cache.close()


async def test_the_number_of_services_has_a_bound(lazy: Site) -> None:
    lazy.fake.always = fakes.silence
    asking = [asyncio.ensure_future(lazy.cache.get(f"Service{i}")) for i in range(MAX_SERVICES)]
    await asyncio.sleep(0)
    with pytest.raises(LocalMisuse, match="more than 64"):
        await lazy.cache.get("OneMore")
    await lazy.cache.close()
    await asyncio.gather(*asking, return_exceptions=True)


async def test_a_refresh_asked_for_replaces_a_ticket_that_is_good_and_serves_it_meanwhile(lazy: Site) -> None:
    first = await lazy.cache.get(SERVICE)
    gate = asyncio.Event()
    lazy.fake.faults.append(fakes.hold(gate))
    lazy.cache.refresh(SERVICE)
    lazy.cache.refresh(SERVICE)
    await until("the request to reach the server", lambda: lazy.asked == 2)
    lazy.cache.refresh(SERVICE)
    assert await lazy.cache.get(SERVICE) is first
    gate.set()
    await until("the new ticket", lambda: lazy.cache.held(SERVICE) is not first)
    assert lazy.asked == 2


async def test_a_refresh_begins_the_keeping_of_a_service(lazy: Site) -> None:
    assert lazy.cache.held(SERVICE) is None
    lazy.cache.refresh(SERVICE)
    await until("the first ticket", lambda: lazy.cache.held(SERVICE) is not None)
    assert lazy.asked == 1


async def test_a_refresh_can_be_asked_for_and_the_ticket_held_serves_meanwhile(lazy: Site) -> None:
    first = await lazy.cache.get(SERVICE)
    gate = asyncio.Event()
    lazy.fake.faults.append(fakes.hold(gate))
    lazy.cache.refresh(SERVICE)
    await until("the request to reach the server", lambda: lazy.asked == 2)
    assert await lazy.cache.get(SERVICE) is first
    gate.set()
    await until("the new ticket", lambda: lazy.cache.held(SERVICE) is not first)
    assert lazy.asked == 2
