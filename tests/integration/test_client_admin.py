"""The administrator's client: every request, its ticket renewed when it must be, and what may not be sent twice."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web
from tests.support import fake_authnode as fakes
from tests.support.fake_authnode import FakeAuthnode

from cubeauth import entropy, ids
from cubeauth.caps import Capabilities
from cubeauth.errors import CODE_EXPIRED_TICKET, CODE_INVALID_TICKET, CODE_KEYSTORE
from cubeauth_client.admin import AdminClient
from cubeauth_client.authnode import Authnode
from cubeauth_client.endpoints import EndpointSet, parse_endpoints
from cubeauth_client.errors import AuthnodeRefused, AuthnodeUnreachable, NotSupported, TicketUnavailable
from cubeauth_client.retry import RetryPolicy
from cubeauth_client.tickets import GivenTicket, TicketsOnDemand, get_ticket
from cubeauth_runtime.clock import OffsetClock

CLIENT = ids.Role.CLIENT


class Site:
    """A fake Authnode with an administrator, and a client of it."""

    def __init__(self, *, stock: bool = False) -> None:
        self.clock = OffsetClock(0.0)
        self.fake = FakeAuthnode(entropy.system(32), stock=stock, clock=self.clock)
        self.admin_key = self.fake.add(fakes.record("admin"))

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncIterator[Site]:
        await self.fake.start()
        self.authnode = self.client()
        self.tickets = TicketsOnDemand(self.authnode, "admin", self.admin_key.auth_key)
        self.admin = AdminClient(self.authnode, self.tickets)
        yield self
        await self.fake.stop()

    def client(self) -> Authnode:
        endpoints = EndpointSet(parse_endpoints(self.fake.address))
        return Authnode(endpoints, clock=self.clock, policy=RetryPolicy(rounds=3, base=0.01, ceiling=0.02))

    def paths(self) -> list[str]:
        return [path for path, _ in self.fake.seen]


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with Site().run() as running:
        yield running


@pytest.fixture
async def stock() -> AsyncIterator[Site]:
    async with Site(stock=True).run() as running:
        yield running


async def test_a_keys_whole_life(site: Site) -> None:
    admin = site.admin
    made = await admin.create_key("reader", CLIENT, '{"API":["a:b:c"]}')
    assert made.auth_key == site.fake.principals["reader"].auth_key
    assert (await admin.get_key("reader")).key_file() == made.key_file()
    assert (await admin.add_caps("reader", '{"API":["d:e:f"]}')).capabilities() == Capabilities(api=("a:b:c", "d:e:f"))
    assert (await admin.delete_caps("reader", '{"API":["a:b:c"]}')).capabilities() == Capabilities(api=("d:e:f",))
    assert (await admin.get_caps("reader")).auth_key is None
    assert (
        await admin.set_caps("reader", Capabilities(api=("g:h:i",)))
    ).caps == '{"API":["g:h:i"],"OwnerVOL":[],"NoneOwnerVOL":[]}'
    await admin.delete_key("reader")
    with pytest.raises(AuthnodeRefused) as caught:
        await admin.get_key("reader")
    assert caught.value.code == CODE_KEYSTORE


async def test_capabilities_by_access_key(site: Site) -> None:
    access_key = site.fake.add(fakes.record("user", capabilities="{}")).access_key
    assert "master:vol1:*" in (await site.admin.os_add_caps(access_key, '{"OwnerVOL":["master:vol1:*"]}')).caps
    assert (await site.admin.os_get_caps(access_key)).user_id == "user"
    assert "vol1" not in (await site.admin.os_delete_caps(access_key, '{"OwnerVOL":["master:vol1:*"]}')).caps


async def test_raft_nodes_are_answered_in_the_servers_words(site: Site) -> None:
    assert await site.admin.add_raft_node(1, "a:1") == "addraftnode id :1, addr:a:1 successfully"
    assert await site.admin.remove_raft_node(1, "a:1") == "removeraftnode id :1, addr:a:1 successfully"


async def test_state_and_a_list_in_pages(site: Site) -> None:
    for i in range(5):
        site.fake.add(fakes.record(f"u{i}"))
    assert (await site.admin.state()).keys == 6
    listed = [key async for key in site.admin.list_keys(limit=2)]
    assert [key.id for key in listed] == ["admin", "u0", "u1", "u2", "u3", "u4"]
    assert listed[0].kvno == 1
    assert site.paths().count("/cubeauth/v1/keys") == 4


@pytest.mark.parametrize("what", ["state", "list", "set_caps"])
async def test_a_stock_authnode_cannot_do_what_only_ours_does(stock: Site, what: str) -> None:
    asked: dict[str, Callable[[], Awaitable[object]]] = {
        "state": stock.admin.state,
        "list": stock.admin.key_page,
        "set_caps": lambda: stock.admin.set_caps("admin", Capabilities()),
    }
    with pytest.raises(NotSupported, match=r"has no /cubeauth/v1/\w+: a stock Authnode cannot do this"):
        await asked[what]()
    assert (await stock.admin.get_key("admin")).id == "admin"


async def test_one_ticket_serves_until_it_expires(site: Site) -> None:
    await site.admin.get_key("admin")
    await site.admin.get_key("admin")
    assert site.paths().count("/client/getticket") == 1
    site.clock.offset += 3601
    await site.admin.get_key("admin")
    assert site.paths().count("/client/getticket") == 2
    assert site.paths().count("/admin/getkey") == 3  # none was sent with the old one


async def test_many_requests_at_once_share_one_ticket(site: Site) -> None:
    await asyncio.gather(*(site.admin.get_key("admin") for _ in range(10)))
    assert site.paths().count("/client/getticket") == 1


@pytest.mark.parametrize("code", [CODE_EXPIRED_TICKET, CODE_INVALID_TICKET])
async def test_a_ticket_that_the_server_calls_over_is_renewed_once(site: Site, code: int) -> None:
    await site.admin.get_key("admin")
    site.fake.faults.append(fakes.refuse(code, "over"))
    assert (await site.admin.get_key("admin")).id == "admin"
    assert site.paths()[2:] == ["/admin/getkey", "/client/getticket", "/admin/getkey"]


async def test_a_server_that_calls_every_ticket_over_is_asked_twice(site: Site) -> None:
    async def over(_fake: FakeAuthnode, request: web.Request) -> web.Response | None:
        if request.path == "/client/getticket":
            return None
        return web.Response(text='{"code":43,"msg":"expired ticket","data":null}')

    site.fake.always = over
    with pytest.raises(AuthnodeRefused, match="get a new one"):
        await site.admin.get_key("admin")
    assert site.paths().count("/admin/getkey") == 2


async def test_a_ticket_from_a_file_is_not_renewed(site: Site) -> None:
    grant = await site.tickets.get(ids.AUTH_SERVICE)
    site.fake.always = fakes.refuse(CODE_EXPIRED_TICKET, "expired ticket")
    with pytest.raises(AuthnodeRefused, match="get a new one"):
        await AdminClient(site.authnode, GivenTicket(grant)).get_key("admin")
    assert site.paths().count("/client/getticket") == 1


async def test_a_ticket_from_a_file_for_another_service_is_not_sent(site: Site) -> None:
    site.fake.add(fakes.record("MasterService"))
    grant = await get_ticket(site.authnode, "admin", site.admin_key.auth_key, "MasterService")
    with pytest.raises(TicketUnavailable, match="the one given is for MasterService"):
        await AdminClient(site.authnode, GivenTicket(grant)).get_key("admin")


@pytest.mark.parametrize("fault", [fakes.carry_out_then_drop, fakes.status(500), fakes.body("x")])
async def test_createkey_whose_reply_is_lost_is_not_sent_again(site: Site, fault: fakes.Fault) -> None:
    await site.admin.get_key("admin")
    site.fake.faults.append(fault)
    with pytest.raises(AuthnodeUnreachable, match="may have been carried out all the same") as caught:
        await site.admin.create_key("reader", CLIENT, "{}")
    assert caught.value.outcome_unknown
    assert site.paths().count("/admin/createkey") == 1


@pytest.mark.parametrize("word", ["create_key", "delete_key"])
async def test_what_cannot_have_been_carried_out_is_sent_again(site: Site, word: str) -> None:
    await site.admin.get_key("admin")
    site.fake.faults.append(fakes.refuse(33, "no leader"))
    if word == "create_key":
        await site.admin.create_key("reader", CLIENT, "{}")
    else:
        await site.admin.delete_key("admin")
    assert site.fake.seen[-2][0] == site.fake.seen[-1][0]


async def test_addcaps_whose_reply_is_lost_is_sent_again(site: Site) -> None:
    await site.admin.get_key("admin")
    site.fake.faults.append(fakes.carry_out_then_drop)
    assert "a:b:c" in (await site.admin.add_caps("admin", '{"API":["a:b:c"]}')).caps
    assert site.paths().count("/admin/addcaps") == 2


async def test_who_has_no_capability_is_refused_in_the_servers_words(site: Site) -> None:
    nobody = site.fake.add(fakes.record("nobody", capabilities="{}"))
    admin = AdminClient(site.authnode, TicketsOnDemand(site.authnode, "nobody", nobody.auth_key))
    with pytest.raises(AuthnodeRefused, match=r"code 2: no permission to access API$"):
        await admin.get_key("admin")


async def test_a_reply_about_another_principal_is_refused(site: Site) -> None:
    """A server that answers with the wrong key must not have it written to this one's file."""
    site.fake.prepared["reader"] = fakes.record("writer")
    with pytest.raises(AuthnodeUnreachable, match="key_info: of another id"):
        await site.admin.create_key("reader", CLIENT, "{}")
