"""What a sidecar knows of its Authnode, over one that answers, refuses, or says nothing."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support import fake_authnode as fakes
from tests.support.fake_authnode import FakeAuthnode
from tests.support.waiting import until

from cubeauth import entropy
from cubeauth.errors import InputError
from cubeauth.ids import Role
from cubeauth.phases import Mode
from cubeauth.secret import SecretBytes
from cubeauth_client.endpoints import parse_endpoints
from cubeauth_client.errors import TicketUnavailable
from cubeauth_runtime.clock import OffsetClock
from cubeauth_sidecar import credentials as module
from cubeauth_sidecar.config import AcceptEntry, AuthnodeSettings, ConnectEntry, Limits, SidecarConfig
from cubeauth_sidecar.credentials import Credentials
from cubeauth_sidecar.metrics import Metrics

SERVICE = "DatanodeService"


class MovedClock(OffsetClock):
    """A clock whose both hands the test moves."""

    def monotonic(self) -> float:
        return super().monotonic() + self.offset


class Site:
    def __init__(self) -> None:
        self.clock = MovedClock(0.0)
        self.fake = FakeAuthnode(entropy.system(32), clock=self.clock)
        self.service = self.fake.add(fakes.record(SERVICE, role=Role.SERVICE))
        self.client = self.fake.add(fakes.record("writer"))
        self.metrics = Metrics()
        self.deaths: list[str] = []

    def config(self, *, key: SecretBytes | None = None, connects: bool = True, accepts: bool = True) -> SidecarConfig:
        address = ("127.0.0.1", 1)
        accept = AcceptEntry(
            "accept[0]", "guard", address, address, SERVICE, key or self.service.auth_key, "data:write:access", Mode.SEALED
        )
        connect = ConnectEntry("connect[0]", "out", address, address, SERVICE, Mode.SEALED)
        return SidecarConfig(
            source="test",
            client_id="writer",
            key=self.client.auth_key,
            authnode=AuthnodeSettings(parse_endpoints(self.fake.address), None),
            health=None,
            accept=(accept,) if accepts else (),
            connect=(connect,) if connects else (),
            limits=Limits(),
            grace=0,
            drain=0,
            audit=None,
            log_level="info",
        )

    @contextlib.asynccontextmanager
    async def credentials(self, config: SidecarConfig) -> AsyncIterator[Credentials]:
        made = Credentials(
            config,
            self.metrics,
            clock=self.clock,
            entropy=entropy.system,
            on_death=lambda name, _error: self.deaths.append(name),
        )
        made.start()
        yield made
        await made.close()
        assert self.deaths == []


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    await made.fake.start()
    yield made
    await made.fake.stop()


async def test_ready_means_a_ticket_to_dial_with_and_a_word_about_our_key(site: Site) -> None:
    async with site.credentials(site.config()) as credentials:
        assert credentials.problem() == f"no ticket for {SERVICE}"
        await until("readiness", lambda: credentials.problem() == "")
        assert credentials.held(SERVICE) is not None
        assert len(site.fake.seen) == 1


async def test_an_acceptor_stays_ready_when_its_own_ticket_is_over(site: Site) -> None:
    async with site.credentials(site.config(connects=False)) as credentials:
        await until("readiness", lambda: credentials.problem() == "")
        site.clock.offset += 7200
        assert credentials.held(SERVICE) is None
        assert credentials.problem() == ""


async def test_a_connector_is_not_ready_when_its_ticket_is_over(site: Site) -> None:
    async with site.credentials(site.config(accepts=False)) as credentials:
        await until("readiness", lambda: credentials.problem() == "")
        site.clock.offset += 7200
        assert credentials.problem() == f"no ticket for {SERVICE}"


async def test_another_service_key_than_the_authnodes_is_told(site: Site) -> None:
    async with site.credentials(site.config(key=SecretBytes(entropy.system(32)), connects=False)) as credentials:
        problem = f"the Authnode has another key for {SERVICE} than this sidecar"
        await until("the problem", lambda: credentials.problem() == problem)


@pytest.mark.parametrize(
    ("fault", "silent"),
    [(fakes.drop, True), (fakes.status(503), True), (fakes.refuse(2, "authentication failed"), False), (None, False)],
    ids=["drops", "http error", "refuses", "answers"],
)
async def test_only_a_try_without_an_answer_counts_for_grace(site: Site, fault: fakes.Fault | None, silent: bool) -> None:
    site.fake.always = fault
    async with site.credentials(site.config(accepts=False)) as credentials:
        with contextlib.suppress(TicketUnavailable):
            await credentials.get(SERVICE)
        credentials.collect()
        assert (credentials.unanswered_try() is not None) == silent
        assert (site.metrics.authnode_silent._value.get() == 1) == silent
        if silent:
            tried = credentials.unanswered_try()
            assert tried is not None
            assert 0 <= site.clock.now() - tried < 30


async def test_an_answer_ends_the_silence(site: Site) -> None:
    site.fake.always = fakes.drop
    async with site.credentials(site.config(accepts=False)) as credentials:
        with contextlib.suppress(TicketUnavailable):
            await credentials.get(SERVICE)
        assert credentials.unanswered_try() is not None
        site.fake.always = None
        site.clock.offset += module.ASK_GAP
        credentials.ask(SERVICE)
        await until("the answer", lambda: credentials.unanswered_try() is None)


async def test_however_many_connections_ask_the_authnode_is_asked_once_in_a_while(site: Site) -> None:
    async with site.credentials(site.config(accepts=False)) as credentials:
        await credentials.get(SERVICE)
        for _ in range(100):
            credentials.ask(SERVICE)
        async with site.credentials(site.config(accepts=False)) as others:
            await others.get(SERVICE)  # as long as a request of ours would take
        assert len(site.fake.seen) == 2
        held = credentials.held(SERVICE)
        site.clock.offset += module.ASK_GAP
        for _ in range(100):
            credentials.ask(SERVICE)
        await until("a new ticket", lambda: credentials.held(SERVICE) is not held)
        assert len(site.fake.seen) == 3


async def test_metrics_say_when_the_ticket_was_made_and_when_it_ends(site: Site) -> None:
    async with site.credentials(site.config(accepts=False)) as credentials:
        grant = await credentials.get(SERVICE)
        site.clock.offset += 100
        credentials.collect()
        assert site.metrics.ticket_expiry.labels(SERVICE)._value.get() == grant.exp
        assert site.metrics.ticket_issued.labels(SERVICE)._value.get() == grant.c_time
        assert 100 <= site.metrics.ticket_age.labels(SERVICE)._value.get() < 130


async def test_a_ca_file_that_cannot_be_read_is_a_wrong_configuration(site: Site, tmp_path: Path) -> None:
    config = site.config()
    https = AuthnodeSettings(parse_endpoints("https://127.0.0.1:1"), tmp_path / "gone.pem")
    with pytest.raises(InputError, match=r"gone\.pem"):
        Credentials(
            replace(config, authnode=https), site.metrics, clock=site.clock, entropy=entropy.system, on_death=lambda *_: None
        )
