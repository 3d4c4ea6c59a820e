"""The client against servers that fail in every way a server can: failover, bounds, fresh verifiers, and what the error says."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import pytest
from aiohttp import web
from tests.support import fake_authnode as fakes
from tests.support.fake_authnode import FakeAuthnode

from cubeauth import entropy, messages, strictjson, verifier
from cubeauth.exchange import TicketGrant
from cubeauth.keys import KeyRecord
from cubeauth_client.authnode import Authnode
from cubeauth_client.endpoints import EndpointSet, parse_endpoints
from cubeauth_client.errors import AuthnodeRefused, AuthnodeUnreachable, TicketUnavailable
from cubeauth_client.observer import ClientObserver, Outcome
from cubeauth_client.retry import RetryPolicy
from cubeauth_client.tickets import get_ticket
from cubeauth_runtime.clock import Clock, OffsetClock, SystemClock

QUICK = RetryPolicy(rounds=3, base=0.01, ceiling=0.02, total=20.0)


class Counting(ClientObserver):
    def __init__(self) -> None:
        self.outcomes: list[tuple[str, Outcome]] = []
        self.delays: list[float] = []

    def tried(self, endpoint: str, outcome: Outcome) -> None:
        self.outcomes.append((endpoint, outcome))

    def retried(self, delay: float) -> None:
        self.delays.append(delay)


@pytest.fixture
async def fake() -> AsyncIterator[FakeAuthnode]:
    async with running() as server:
        yield server


@contextlib.asynccontextmanager
async def running(*, stock: bool = False, lifetime: int = 3600) -> AsyncIterator[FakeAuthnode]:
    server = FakeAuthnode(entropy.system(32), stock=stock, lifetime=lifetime)
    server.add(fakes.record("reader"))
    server.add(fakes.record("MasterService"))
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@pytest.fixture
def unused_address() -> Iterator[str]:
    """A port that nobody listens on, held so that nobody will."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{s.getsockname()[1]}"


def client(
    *addresses: str,
    policy: RetryPolicy = QUICK,
    observer: ClientObserver | None = None,
    clock: Clock | None = None,
    reply_timeout: float = 10.0,
) -> Authnode:
    return Authnode(
        EndpointSet(parse_endpoints(list(addresses))),
        clock=clock or SystemClock(),
        policy=policy,
        observer=observer,
        reply_timeout=reply_timeout,
    )


async def ask(authnode: Authnode, reader: KeyRecord) -> TicketGrant:
    return await get_ticket(authnode, reader.id, reader.auth_key, "MasterService")


async def test_a_ticket_comes_with_its_session_key_and_end(fake: FakeAuthnode) -> None:
    authnode = client(fake.address)
    grant = await ask(authnode, fake.principals["reader"])
    assert (grant.client_id, grant.service_id) == ("reader", "MasterService")
    assert grant.exp - grant.c_time == 3600
    assert len(grant.session_key) == 32


async def test_a_stock_reply_without_an_end_means_24_hours() -> None:
    async with running(stock=True) as fake:
        authnode = client(fake.address)
        grant = await ask(authnode, fake.principals["reader"])
    assert grant.exp - grant.c_time == 24 * 3600


@pytest.mark.parametrize(
    "fault",
    [fakes.drop, fakes.drop_gently, fakes.status(500), fakes.status(503), fakes.body("not JSON"), fakes.refuse(33, "no leader")],
)
async def test_a_passing_fault_is_survived_with_a_fresh_verifier(fake: FakeAuthnode, fault: fakes.Fault) -> None:
    fake.faults.extend([fault, fault])
    observer = Counting()
    authnode = client(fake.address, observer=observer)
    await ask(authnode, fake.principals["reader"])
    assert len({request["verifier"] for _, request in fake.seen}) == 3
    assert [outcome for _, outcome in observer.outcomes] == [Outcome.FAILED, Outcome.FAILED, Outcome.ANSWERED]
    assert len(observer.delays) == 2


async def test_a_try_whose_reply_was_lost_does_not_make_the_next_a_replay(fake: FakeAuthnode) -> None:
    fake.faults.append(fakes.carry_out_then_drop)
    authnode = client(fake.address)
    await ask(authnode, fake.principals["reader"])
    assert len(fake.verifiers) == 2


async def test_tries_are_bounded_and_the_error_says_what_a_drop_may_mean(fake: FakeAuthnode) -> None:
    fake.always = fakes.drop
    authnode = client(fake.address)
    with pytest.raises(AuthnodeUnreachable, match=r"closed without a reply, which is how a stock Authnode answers a wrong key"):
        await ask(authnode, fake.principals["reader"])
    assert len(fake.seen) == QUICK.rounds


async def test_a_wrong_key_at_a_stock_authnode_is_told_as_what_it_may_be() -> None:
    async with running(stock=True) as fake:
        authnode = client(fake.address)
        with pytest.raises(AuthnodeUnreachable, match=r"wrong key.*\(3 tries\)"):
            await ask(authnode, fakes.record("reader"))


async def test_a_wrong_key_is_refused_once_and_named_among_the_causes(fake: FakeAuthnode) -> None:
    authnode = client(fake.address)
    with pytest.raises(AuthnodeRefused, match=r"the key is wrong or was deleted.*clock differs") as caught:
        await ask(authnode, fakes.record("reader"))
    assert (caught.value.code, len(fake.seen)) == (2, 1)
    assert "about" not in str(caught.value)


@pytest.mark.parametrize(("offset", "side"), [(3600.0, "ahead"), (-3600.0, "behind")])
async def test_a_clock_that_is_off_is_measured_by_the_servers_date(fake: FakeAuthnode, offset: float, side: str) -> None:
    authnode = client(fake.address, clock=OffsetClock(offset))
    with pytest.raises(AuthnodeRefused, match=rf"\(it is about 3[56]\d\d s {side}\)"):
        await ask(authnode, fake.principals["reader"])


async def test_the_next_endpoint_answers_where_the_first_does_not(fake: FakeAuthnode, unused_address: str) -> None:
    observer = Counting()
    authnode = client(unused_address, fake.address, observer=observer)
    await ask(authnode, fake.principals["reader"])
    await ask(authnode, fake.principals["reader"])
    assert observer.outcomes == [
        (f"http://{unused_address}", Outcome.FAILED),
        (f"http://{fake.address}", Outcome.ANSWERED),
        (f"http://{fake.address}", Outcome.ANSWERED),  # the dead one is remembered
    ]
    assert observer.delays == []  # failing over does not wait


async def test_nobody_there_is_one_line_with_every_endpoint(unused_address: str) -> None:
    authnode = client(unused_address, "no-such-host.invalid:1")
    with pytest.raises(AuthnodeUnreachable) as caught:
        await ask(authnode, fakes.record("reader"))
    assert f"http://{unused_address}: cannot connect: Connection refused (3 tries)" in str(caught.value)
    assert "http://no-such-host.invalid:1: the host name is not known" in str(caught.value)


async def test_a_server_that_says_nothing_is_left_in_time(fake: FakeAuthnode) -> None:
    fake.always = fakes.silence
    authnode = client(fake.address, reply_timeout=0.1)
    with pytest.raises(AuthnodeUnreachable, match=r"no reply in time \(3 tries\)"):
        await ask(authnode, fake.principals["reader"])


async def test_all_tries_together_have_a_bound_in_time(fake: FakeAuthnode) -> None:
    fake.always = fakes.silence
    policy = RetryPolicy(rounds=1000, base=0.01, ceiling=0.02, total=0.3)
    authnode = client(fake.address, policy=policy)
    async with asyncio.timeout(20):
        with pytest.raises(AuthnodeUnreachable, match="no reply in time"):
            await ask(authnode, fake.principals["reader"])


async def test_a_reply_that_goes_on_and_on_is_refused(fake: FakeAuthnode) -> None:
    fake.always = fakes.body("x" * (3 * 1024 * 1024))
    authnode = client(fake.address)
    with pytest.raises(AuthnodeUnreachable, match=r"a reply of more than 2097152 bytes"):
        await ask(authnode, fake.principals["reader"])
    assert len(fake.seen) == 1  # it would do so again


async def test_a_compressed_reply_is_not_unpacked(fake: FakeAuthnode) -> None:
    fake.always = fakes.body("x" * 100, **{"Content-Encoding": "gzip"})
    authnode = client(fake.address)
    with pytest.raises(AuthnodeUnreachable, match="not a reply to this request"):
        await ask(authnode, fake.principals["reader"])


async def test_a_redirect_is_not_followed(fake: FakeAuthnode) -> None:
    async with running() as other:
        authnode = client(fake.address)
        fake.always = fakes.redirect(f"http://{other.address}{messages.TICKET_PATH}")
        with pytest.raises(AuthnodeUnreachable, match="HTTP 307: a redirect, which is not followed"):
            await ask(authnode, fake.principals["reader"])
        assert other.seen == []


async def test_no_proxy_is_taken_from_the_environment(fake: FakeAuthnode, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as proxy:
        authnode = client(fake.address)
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://{proxy.address}")
        await ask(authnode, fake.principals["reader"])
        assert proxy.seen == []


async def test_no_cookie_is_kept(fake: FakeAuthnode) -> None:
    seen: list[str] = []

    async def look(_fake: FakeAuthnode, request: web.Request) -> web.Response | None:
        seen.append(request.headers.get("Cookie", ""))
        return web.Response(status=503, headers={"Set-Cookie": "a=b"}) if len(seen) == 1 else None

    fake.always = look
    authnode = client(fake.address)
    await ask(authnode, fake.principals["reader"])
    assert seen == ["", ""]


async def test_the_reply_to_another_request_is_refused(fake: FakeAuthnode) -> None:
    """A man in the middle answers with an earlier reply, of the same second even: it names another service."""
    authnode = client(fake.address)
    await get_ticket(authnode, "reader", fake.principals["reader"].auth_key, "AuthService")
    fake.always = fakes.foreign_reply
    with pytest.raises(AuthnodeUnreachable, match="not a reply to this request"):
        await ask(authnode, fake.principals["reader"])


async def test_a_server_that_is_no_authnode_is_said_to_be_none(fake: FakeAuthnode) -> None:
    fake.always = fakes.status(404)
    authnode = client(fake.address)
    with pytest.raises(AuthnodeUnreachable, match=r"HTTP 404 for /client/getticket: is this an Authnode\?"):
        await ask(authnode, fake.principals["reader"])
    assert len(fake.seen) == 1


async def test_what_does_not_speak_http_is_told_in_one_line() -> None:
    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server:
        authnode = client(f"{host}:{port}")
        with pytest.raises(AuthnodeUnreachable, match=r"the reply is not HTTP|closed without a reply"):
            await ask(authnode, fakes.record("reader"))


async def test_a_ticket_that_is_over_as_it_arrives_is_no_ticket() -> None:
    async with running(lifetime=-5) as fake:
        authnode = client(fake.address)
        with pytest.raises(TicketUnavailable, match="expired already"):
            await ask(authnode, fake.principals["reader"])


async def test_our_verifier_is_bound_to_the_request(fake: FakeAuthnode) -> None:
    authnode = client(fake.address)
    await ask(authnode, fake.principals["reader"])
    request = fake.seen[0][1]
    opened = verifier.open_(fake.principals["reader"].auth_key.reveal(), verifier.decode(request["verifier"]))
    verifier.check_binding(opened, strictjson.canonical(request | {"verifier": ""}))
    assert opened.body_hash is not None


async def test_no_error_holds_a_secret(fake: FakeAuthnode, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    reader = fake.principals["reader"]
    fake.faults.extend([fakes.drop, fakes.body("x"), fakes.status(500)])
    authnode = client(fake.address)
    with pytest.raises(AuthnodeUnreachable) as caught:
        await ask(authnode, reader)
    grant = await ask(authnode, reader)
    written = str(caught.value) + repr(caught.value) + caplog.text + repr(grant)
    secrets = [strictjson.b64encode(k.reveal()) for k in (reader.auth_key, grant.session_key)] + [grant.ticket]
    secrets += [request["verifier"] for _, request in fake.seen]
    assert not [secret for secret in secrets if secret in written]


async def test_every_request_has_a_connection_of_its_own(fake: FakeAuthnode) -> None:
    """An idle one that the server closes just then would look like a refused key."""
    peers: list[object] = []

    async def look(_fake: FakeAuthnode, request: web.Request) -> None:
        assert request.transport is not None
        peers.append(request.transport.get_extra_info("peername"))

    fake.always = look
    authnode = client(fake.address)
    for _ in range(3):
        await ask(authnode, fake.principals["reader"])
    assert len(set(peers)) == 3


async def test_no_endpoint_is_tried_when_the_time_is_over(fake: FakeAuthnode) -> None:
    async with running() as second:
        fake.always = second.always = fakes.silence
        authnode = client(fake.address, second.address, policy=RetryPolicy(rounds=3, base=0.01, total=0.2))
        with pytest.raises(AuthnodeUnreachable, match=r"no reply in time$"):
            await ask(authnode, fake.principals["reader"])
        assert (len(fake.seen), second.seen) == (1, [])
