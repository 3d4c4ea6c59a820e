"""What the Authnode decides about tickets and admin requests, without its processes: whom it believes and what it tells."""

from __future__ import annotations

import asyncio
import base64
import collections
import hashlib
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from tests.support.authnode import encoded_caps
from tests.support.desks import NOW, POLICY, SERVICE_KEY, World
from tests.support.mutations import spoiled_members

from cubeauth import caps, entropy, exchange, keys, messages, strictjson, ticket, verifier
from cubeauth.compat import envelope
from cubeauth.errors import (
    CODE_EXPIRED_TICKET,
    CODE_INVALID_TICKET,
    CODE_KEYSTORE,
    CODE_PARAMETER,
    AuthenticationFailed,
    PeerError,
    Reason,
    RequestInvalid,
)
from cubeauth.ids import AUTH_SERVICE, Role
from cubeauth.messages import ADMIN_ROUTES, ROUTE_OF_WORD
from cubeauth.secret import SecretBytes
from cubeauth_authnode import admin, tickets
from cubeauth_authnode.admin import MAX_PAGE, Refused
from cubeauth_authnode.keystore.base import KeystoreBusy, KeystoreUnusable
from cubeauth_authnode.link import MAX_FRAME
from cubeauth_authnode.proof import Policy, auth_service_record

AUTHENTICATION_FAILED = '{"code":2,"msg":"authentication failed","data":null}'
BUILT_IN = auth_service_record(SERVICE_KEY)


@pytest.fixture
def world() -> World:
    return World()


def ask_ticket(principal: str, key: SecretBytes, service: str = "MasterService", *, now: float = NOW) -> bytes:
    return exchange.ask_ticket(principal, key, service, now=now, entropy=entropy.system).body


def spoil_proof(form: bytes, at: int) -> bytes:
    """The same request with one bit of its verifier's ciphertext turned; -17 lies under the padding."""
    members = messages.decode_form(form)
    holder = members.get("api_req", members)
    raw = bytearray(base64.b64decode(holder["verifier"]))
    raw[at] ^= 0x40
    holder["verifier"] = base64.b64encode(raw).decode()
    return messages.encode_form(strictjson.dumps(members))


# Tickets.


def test_a_ticket_says_whose_it_is_and_how_long_it_lives(world: World) -> None:
    service = world.create("MasterService", Role.SERVICE)
    client = world.create("ltptest", Role.CLIENT, "master:getvol:access")
    grant = world.grant(client, "MasterService")
    assert (grant.c_time, grant.exp) == (NOW, NOW + POLICY.lifetime)
    opened = ticket.open_(service.auth_key.reveal(), grant.ticket)
    assert (opened.client_id, opened.service_id, opened.kvno, opened.ip) == ("ltptest", "MasterService", client.kvno, "192.0.2.1")
    assert (opened.caps, opened.exp, len(opened.jti)) == (client.caps, grant.exp, 32)
    assert opened.session_key == grant.session_key
    other = ticket.open_(service.auth_key.reveal(), world.grant(client, "MasterService").ticket)
    assert opened.session_key != other.session_key
    assert opened.jti != other.jti


@pytest.mark.parametrize(("asked", "meant"), [("MetaService", "MetanodeService"), ("DataService", "DatanodeService")])
def test_an_alias_is_echoed_and_its_ticket_opens_at_the_service(world: World, asked: str, meant: str) -> None:
    service = world.create(meant, Role.SERVICE)
    grant = world.grant(world.create("ltptest"), asked)
    assert grant.service_id == asked
    assert ticket.open_(service.auth_key.reveal(), grant.ticket).service_id == meant


def test_any_service_key_is_a_service_and_a_client_key_is_none(world: World) -> None:
    world.create("MyOwnService", Role.SERVICE)
    client = world.create("ltptest")
    assert world.grant(client, "MyOwnService").service_id == "MyOwnService"
    for service in ("nosuch", "ltptest"):
        with pytest.raises(RequestInvalid) as caught:
            world.grant(client, service)
        assert (caught.value.reason, caught.value.wire_text) == (Reason.UNKNOWN_SERVICE, "invalid service ID")


def test_a_key_deleted_between_proof_and_issue_gets_nothing_and_neither_does_its_successor(world: World) -> None:
    world.create("MasterService", Role.SERVICE)
    client = world.create("ltptest")
    proven = world.tickets.prove(exchange.parse_ticket_request(ask_ticket("ltptest", client.auth_key)), NOW)
    world.delete("ltptest")
    for _ in range(2):
        with pytest.raises(AuthenticationFailed) as caught:
            world.tickets.issue(proven, "192.0.2.1", NOW)
        assert caught.value.reason is Reason.UNKNOWN_CLIENT
        if world.directory.get("ltptest") is None:
            world.create("ltptest")


def test_the_key_of_an_id_made_anew_is_the_only_one_that_is_good(world: World) -> None:
    world.create("MasterService", Role.SERVICE)
    old = world.create("ltptest")
    world.grant(old, "MasterService")
    world.delete("ltptest")
    new = world.create("ltptest")
    with pytest.raises(AuthenticationFailed):
        world.grant(old, "MasterService")
    assert world.grant(new, "MasterService").client_id == "ltptest"


def test_more_keys_than_are_kept_set_up_are_served_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tickets, "PREPARED_KEYS", 3)
    world.create("MasterService", Role.SERVICE)
    clients = [world.create(f"c{n}") for n in range(8)]
    for _ in range(2):
        for client in clients:
            assert world.grant(client, "MasterService").client_id == client.id
    assert len(world.tickets._keys) <= 3


@pytest.mark.parametrize(("required", "refused"), [(frozenset({"ltptest"}), True), (frozenset({"other"}), False), (None, True)])
def test_an_unbound_verifier_where_bound_ones_are_required(required: frozenset[str] | None, refused: bool) -> None:
    world = World(Policy(3600, 10, required))
    client = world.create("ltptest")
    members = {"type": 0x110000, "client_id": "ltptest", "service_id": "AuthService"}
    members["verifier"] = verifier.seal(client.auth_key.reveal(), NOW, entropy.system)
    request = exchange.parse_ticket_request(messages.encode_form(strictjson.dumps(members)))
    if refused:
        with pytest.raises(AuthenticationFailed) as caught:
            world.tickets.prove(request, NOW)
        assert caught.value.reason is Reason.VERIFIER_UNBOUND
    else:
        world.tickets.prove(request, NOW)


# Failures look alike, and cost alike.


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, int]]:
    """Counts the cryptographic work since it was last asked."""
    done: collections.Counter[str] = collections.Counter()

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            done[name] += 1
            return function(*arguments, **named)

        return call

    monkeypatch.setattr(envelope, "_cipher", counted("set up", envelope._cipher))
    monkeypatch.setattr(envelope, "open_decoded", counted("open", envelope.open_decoded))
    monkeypatch.setattr(envelope, "hashlib", SimpleNamespace(md5=counted("md5", hashlib.md5)))

    def since() -> dict[str, int]:
        counts = dict(done)
        done.clear()
        return counts

    return since


def refusal_of(act: Callable[[], object]) -> tuple[str, Reason]:
    with pytest.raises(PeerError) as caught:
        act()
    return messages.refusal(caught.value), caught.value.reason


def test_refused_ticket_requests_are_one_answer_for_the_same_work(world: World, work: Callable[[], dict[str, int]]) -> None:
    wrong = SecretBytes(bytes(32))
    used, unused, gone = world.create("used"), world.create("unused"), world.create("gone")
    world.grant(used)
    world.delete("gone")
    cases = {
        "unknown id": ask_ticket("nosuch", wrong),
        "deleted id": ask_ticket("gone", gone.auth_key),
        "wrong key of an id in use": ask_ticket("used", wrong),
        "wrong key of an id not used yet": ask_ticket("unused", wrong),
        "and then": ask_ticket("unused", wrong),
        "wrong key of AuthService": ask_ticket(AUTH_SERVICE, wrong),
        "bad padding": spoil_proof(ask_ticket("used", used.auth_key), -17),
        "bad checksum": spoil_proof(ask_ticket("used", used.auth_key), 20),
        "bad padding, not used yet": spoil_proof(ask_ticket("unused", unused.auth_key), -17),
    }
    work()
    costs = {}
    for name, form in cases.items():
        request = exchange.parse_ticket_request(form)
        answer, _ = refusal_of(partial(world.tickets.prove, request, NOW))
        assert answer == AUTHENTICATION_FAILED, name
        costs[name] = work()
    assert all(cost == {"open": 1, "md5": 1, "set up": 1} for cost in costs.values()), costs


def _admin_form(world: World, grant: exchange.TicketGrant, *, now: float = NOW, word: str = "getkey") -> bytes:
    route = ROUTE_OF_WORD[word]
    return exchange.ask_access(grant, route.type, {route.payload: {"id": "x"}}, now=now, entropy=entropy.system).body


def test_refused_admin_requests_are_one_answer_for_the_same_work(world: World, work: Callable[[], dict[str, int]]) -> None:
    client = world.create("adm", Role.CLIENT, "auth:*:*")
    good = world.grant(client)
    wrong_session = exchange.TicketGrant("adm", AUTH_SERVICE, good.ticket, SecretBytes(bytes(32)), NOW, NOW)
    other_key = ticket.seal(
        bytes(32), ticket.Ticket(AUTH_SERVICE, SecretBytes(bytes(32)), NOW, NOW, "", "{}", "adm"), entropy.system
    )
    cases = {
        "ticket of another key": (
            exchange.TicketGrant("adm", AUTH_SERVICE, other_key, good.session_key, NOW, NOW),
            Reason.BAD_TICKET,
        ),
        "verifier of another session key": (wrong_session, Reason.BAD_ENVELOPE),
        "ticket of another client": (world.forge("adm", client_id="other"), Reason.OTHER_CLIENT),
        "ticket of nobody": (world.forge("adm", client_id=""), Reason.OTHER_CLIENT),
        "ticket for another service": (world.forge("adm", service_id="MasterService"), Reason.OTHER_SERVICE),
        "ticket with lists that are none": (world.forge("adm", caps="[]"), Reason.BAD_TICKET),
    }
    costs = {}
    for name, (grant, expected) in cases.items():
        request = exchange.parse_access_request(_admin_form(world, grant), ROUTE_OF_WORD["getkey"])
        work()
        answer, reason = refusal_of(partial(world.authority.authorize, request, ROUTE_OF_WORD["getkey"], NOW))
        assert (answer, reason) == (AUTHENTICATION_FAILED, expected), name
        costs[name] = work()
    assert all(cost == {"open": 2, "md5": 2, "set up": 2} for cost in costs.values()), costs


def test_after_the_ticket_opened_a_caller_is_told(world: World) -> None:
    client = world.create("adm", Role.CLIENT, "auth:getcaps:access")
    good = world.grant(client)

    def told(grant: exchange.TicketGrant, word: str = "getcaps", *, now: float = NOW) -> tuple[int, Reason]:
        request = exchange.parse_access_request(_admin_form(world, grant, word=word, now=now), ROUTE_OF_WORD[word])
        with pytest.raises(PeerError) as caught:
            world.authority.authorize(request, ROUTE_OF_WORD[word], now)
        return caught.value.code, caught.value.reason

    assert told(good, now=NOW + 3600) == (CODE_EXPIRED_TICKET, Reason.TICKET_EXPIRED)
    assert told(good, "getkey") == (CODE_PARAMETER, Reason.CAPABILITY_MISSING)
    assert told(good, "getkey", now=NOW + 3599) == (CODE_PARAMETER, Reason.CAPABILITY_MISSING)
    world.delete("adm")
    assert told(good) == (CODE_INVALID_TICKET, Reason.TICKET_REVOKED)
    world.create("adm", Role.CLIENT, "auth:*:*")
    assert told(good) == (CODE_INVALID_TICKET, Reason.TICKET_REVOKED)
    assert told(world.forge(AUTH_SERVICE, kvno=1)) == (CODE_INVALID_TICKET, Reason.TICKET_REVOKED)


async def test_a_capability_counts_when_ticket_and_key_have_it(world: World) -> None:
    client = world.create("adm", Role.CLIENT, "auth:getcaps:access")
    before = world.grant(client)
    admin_grant = world.grant(BUILT_IN)
    await world.ask(admin_grant, "setcaps", {"id": "adm", "caps": encoded_caps("auth:listkeys:access")})
    record = world.directory.get("adm")
    assert record is not None
    after = world.grant(record)
    for grant, word in ((before, "getcaps"), (before, "listkeys"), (after, "getcaps")):
        with pytest.raises(Refused) as caught:
            await world.ask(grant, word, {"id": "adm"})
        assert caught.value.error.reason is Reason.CAPABILITY_MISSING
        assert caught.value.facts == {"client": "adm"}
    assert (await world.ask(after, "listkeys", {}))["keys"][0]["id"] == "adm"


# Admin requests.


async def refused(world: World, word: str, payload: dict[str, Any]) -> tuple[int, str, dict[str, str]]:
    """Code and text that the administrator is told, and what the audit says of who and for whom."""
    with pytest.raises(Refused) as caught:
        await world.ask(world.grant(BUILT_IN), word, payload)
    return caught.value.error.code, caught.value.error.wire_text, caught.value.facts


async def test_a_key_s_life(world: World) -> None:
    grant = world.grant(BUILT_IN)
    made = await world.ask(grant, "createkey", {"id": "ltptest", "role": "client", "caps": encoded_caps("master:getvol:access")})
    key_file = keys.parse_key_file(strictjson.dumps(made["key_info"]))
    assert keys.parse_auth_id_key(made["auth_id_key"]) == ("ltptest", key_file.auth_key)
    assert (await world.ask(grant, "getkey", {"id": "ltptest"}))["key_info"] == made["key_info"]
    await world.ask(grant, "addcaps", {"id": "ltptest", "caps": encoded_caps("master:createvol:access")})
    told = await world.ask(grant, "deletecaps", {"id": "ltptest", "caps": encoded_caps("master:getvol:access")})
    assert told["key_info"]["auth_key"] == made["key_info"]["auth_key"], "to who may read it anyway"
    held = strictjson.loads(strictjson.b64decode(told["key_info"]["caps"]))
    assert held == {"API": ["master:createvol:access"], "OwnerVOL": [], "NoneOwnerVOL": []}
    gone = await world.ask(grant, "deletekey", {"id": "ltptest"})
    assert gone["key_info"]["id"] == "ltptest"
    assert (await refused(world, "getkey", {"id": "ltptest"}))[:2] == (CODE_KEYSTORE, "key ltptest does not exist")


async def test_getcaps_tells_no_secret_and_neither_does_a_change_to_who_may_not_read_keys(world: World) -> None:
    record = world.create("ltptest", Role.CLIENT, "a:b:c")
    limited = world.grant(world.create("adm", Role.CLIENT, "auth:addcaps:access", "auth:deletekey:access"))
    secrets = (strictjson.b64encode(record.auth_key.reveal()), record.secret_key.reveal().decode(), record.access_key)
    replies = [
        await world.ask(world.grant(BUILT_IN), "getcaps", {"id": "ltptest"}),
        await world.ask(limited, "addcaps", {"id": "ltptest", "caps": encoded_caps("d:e:f")}),
        await world.ask(limited, "deletekey", {"id": "ltptest"}),
    ]
    for reply in replies:
        assert (reply["key_info"]["auth_key"], reply["auth_id_key"]) == (None, "")
        assert not any(secret in strictjson.dumps(reply) for secret in secrets)


async def test_capabilities_by_access_key(world: World) -> None:
    record = world.create("ltptest", Role.CLIENT, "a:b:c")
    grant = world.grant(BUILT_IN)
    payload = {"access_key": record.access_key}
    told = (await world.ask(grant, "osgetcaps", payload))["access_key_caps"]
    assert told["access_key"] == record.access_key
    added = await world.ask(grant, "osaddcaps", payload | {"caps": encoded_caps("d:e:f")})
    assert strictjson.loads(strictjson.b64decode(added["access_key_caps"]["caps"]))["API"] == ["a:b:c", "d:e:f"]
    assert added["access_key_caps"]["secret_key"] == ""
    taken = await world.ask(grant, "osdeletecaps", payload | {"caps": encoded_caps("a:b:c")})
    assert strictjson.loads(strictjson.b64decode(taken["access_key_caps"]["caps"]))["API"] == ["d:e:f"]


@pytest.mark.parametrize(
    ("word", "payload", "code", "text", "target"),
    [
        ("createkey", {}, 2, "invalid ID", ""),
        ("createkey", {"id": "1x", "role": "client", "caps": encoded_caps()}, 2, "invalid ID", "1x"),
        ("createkey", {"id": 7}, 2, "id: not a string", ""),
        (
            "createkey",
            {"id": "AuthService", "role": "service", "caps": encoded_caps()},
            2,
            "AuthService is reserved",
            "AuthService",
        ),
        ("createkey", {"id": "x", "role": "root", "caps": encoded_caps()}, 2, "invalid Role: client or service", "x"),
        ("createkey", {"id": "x", "caps": encoded_caps()}, 2, "invalid Role", "x"),
        ("createkey", {"id": "x", "role": "client"}, 2, "caps: not a string", "x"),
        ("createkey", {"id": "x", "role": "client", "caps": "!"}, 2, "not base64", "x"),
        ("createkey", {"id": "x", "role": "client", "caps": "e30"}, 2, "not base64", "x"),
        ("createkey", {"id": "x", "role": "client", "caps": "W10="}, 2, "caps: not a JSON object", "x"),
        ("createkey", {"id": "x", "role": "client", "caps": encoded_caps("a:b")}, 2, "caps.API: 'a:b' is no capability", "x"),
        ("createkey", {"id": "ltptest", "role": "client", "caps": encoded_caps()}, 35, "key ltptest exists", "ltptest"),
        ("deletekey", {"id": "nosuch"}, 35, "key nosuch does not exist", "nosuch"),
        ("deletekey", {"id": "AuthService"}, 2, "AuthService is reserved", "AuthService"),
        ("getkey", {"id": "AuthService"}, 2, "AuthService is reserved", "AuthService"),
        ("getcaps", {"id": "AuthService"}, 2, "AuthService is reserved", "AuthService"),
        ("addcaps", {"id": "AuthService", "caps": encoded_caps("a:b:c")}, 2, "AuthService is reserved", "AuthService"),
        ("getkey", {"id": "nosuch"}, 35, "key nosuch does not exist", "nosuch"),
        ("addcaps", {"id": "nosuch", "caps": encoded_caps("a:b:c")}, 35, "key nosuch does not exist", "nosuch"),
        ("osgetcaps", {"access_key": "short"}, 2, "invalid AccessKey", ""),
        ("osgetcaps", {"access_key": ["a"]}, 2, "invalid AccessKey", ""),
        ("osaddcaps", {"access_key": "A" * 16, "caps": encoded_caps("a:b:c")}, 35, "access key does not exist", ""),
        ("addraftnode", {"id": 1, "addr": "127.0.0.1:8480"}, 2, "it has no raft nodes", ""),
        ("addraftnode", {"id": "x", "addr": ""}, 2, "node_info: id is a number", ""),
        ("removeraftnode", {"id": -1, "addr": "x"}, 2, "node_info: id is a number", ""),
        ("listkeys", {"after": 1}, 2, "page: after is an id or empty", ""),
        ("listkeys", {"limit": 0}, 2, "page: after is an id or empty", ""),
        ("listkeys", {"limit": MAX_PAGE + 1}, 2, f"limit 1 to {MAX_PAGE}", ""),
        ("listkeys", {"limit": True}, 2, "page", ""),
    ],
)
async def test_a_wrong_request_of_a_known_caller_says_what_is_wrong(
    world: World, word: str, payload: dict[str, Any], code: int, text: str, target: str
) -> None:
    world.create("ltptest")
    before = world.directory.sequence
    told_code, told_text, facts = await refused(world, word, payload)
    assert (told_code, facts) == (code, {"client": AUTH_SERVICE, "target": target})
    assert text in told_text
    assert world.directory.sequence == before


async def test_members_without_meaning_are_named_in_reply_and_audit(world: World) -> None:
    wrong = strictjson.b64encode(b'{"api": ["a:b:c"], "Api2": [], "x": 1}')
    reply = await world.ask(world.grant(BUILT_IN), "createkey", {"id": "x", "role": "client", "caps": wrong})
    assert reply["warning"] == "members without meaning: Api2, x"


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        (KeystoreBusy("1024 writes are waiting"), "keystore: 1024 writes are waiting"),
        (KeystoreUnusable("/var/x: full"), "cannot be written"),
    ],
)
async def test_a_keystore_that_fails_says_no_file_names(world: World, failure: Any, text: str) -> None:
    world.failure = failure
    code, told, _ = await refused(world, "createkey", {"id": "x", "role": "client", "caps": encoded_caps()})
    assert code == CODE_KEYSTORE
    assert text in told
    assert "/var" not in told


async def test_the_state_and_the_list(world: World) -> None:
    for number in range(7):
        world.create(f"c{number}", Role.CLIENT, "a:b:c")
    world.delete("c3")
    grant = world.grant(BUILT_IN)
    assert await world.ask(grant, "state", {}) | {"api_resp": 0} == {
        "api_resp": 0,
        "state": {"keystore_id": "k" * 32, "sequence": 8, "keys": 6, "version": "1.2.3"},
    }
    listed: list[str] = []
    after = ""
    while True:
        page = await world.ask(grant, "listkeys", {"after": after, "limit": 2})
        listed += [each["id"] for each in page["keys"]]
        assert not any(set(each) & {"auth_key", "secret_key", "access_key", "auth_id_key"} for each in page["keys"])
        after = page["next"]
        if not after:
            break
    assert listed == ["c0", "c1", "c2", "c4", "c5", "c6"]


async def test_a_page_of_long_lists_ends_early_and_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "MAX_PAGE_CAPS", 3000)
    for number in range(6):
        world.create(f"c{number}", Role.CLIENT, *(f"a:b:c{n}" for n in range(100)))
    grant = world.grant(BUILT_IN)
    first = await world.ask(grant, "listkeys", {})
    assert 1 <= len(first["keys"]) < 6
    assert first["next"] == first["keys"][-1]["id"]
    monkeypatch.setattr(admin, "MAX_PAGE_CAPS", 1)
    assert len((await world.ask(grant, "listkeys", {"after": "c4"}))["keys"]) == 1, "one at least, or nobody gets on"


def test_the_longest_page_goes_through_the_link() -> None:
    longest = admin.MAX_PAGE_CAPS + caps.MAX_TEXT_BYTES + 300 * MAX_PAGE
    assert longest * 4 / 3 * 4 / 3 < MAX_FRAME


async def test_a_replayed_admin_request_is_refused_and_its_caller_only_claimed(world: World) -> None:
    route = ROUTE_OF_WORD["state"]
    sent = exchange.ask_access(world.grant(BUILT_IN), route.type, {"page": {}}, now=NOW, entropy=entropy.system)
    await world.admin.answer(route, sent.body, NOW)
    with pytest.raises(Refused) as caught:
        await world.admin.answer(route, sent.body, NOW)
    assert caught.value.error.reason is Reason.VERIFIER_REPLAYED
    assert caught.value.facts == {"claimed": AUTH_SERVICE}
    with pytest.raises(Refused) as caught:
        await world.admin.answer(route, b"Token=!", NOW)
    assert caught.value.facts == {}


_PAYLOADS = (
    {"id": "ltptest", "role": "client", "caps": encoded_caps("a:b:c")},
    {"access_key": "A" * 16, "caps": encoded_caps("a:b:c")},
    {"id": 1, "addr": "127.0.0.1:1"},
    {"after": "a", "limit": 3},
)


@given(payload=spoiled_members(_PAYLOADS))
def test_no_payload_whatever_does_anything_but_get_an_answer_or_a_refusal(payload: dict[str, Any]) -> None:
    refusals: list[PeerError] = []

    async def ask_all() -> None:
        world = World()
        world.create("ltptest")
        for route in ADMIN_ROUTES:
            try:
                await world.ask(world.grant(BUILT_IN), route.word, payload)
            except Refused as e:
                refusals.append(e.error)

    asyncio.run(ask_all())
    for error in refusals:
        assert error.code in (CODE_PARAMETER, CODE_KEYSTORE)
        assert strictjson.loads(messages.refusal(error))["msg"]
