"""What the Authnode decides about tickets and admin requests, without its processes: whom it believes and what it tells."""

from __future__ import annotations

import base64
import collections
import hashlib
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.authnode import encoded_caps
from tests.support.desks import NOW, POLICY, SERVICE_KEY, World

from cubeauth import entropy, exchange, messages, strictjson, ticket, verifier
from cubeauth.compat import envelope
from cubeauth.errors import (
    CODE_EXPIRED_TICKET,
    CODE_INVALID_TICKET,
    CODE_PARAMETER,
    AuthenticationFailed,
    PeerError,
    Reason,
    RequestInvalid,
)
from cubeauth.ids import AUTH_SERVICE, Role
from cubeauth.messages import ROUTE_OF_WORD
from cubeauth.secret import SecretBytes
from cubeauth_authnode import tickets
from cubeauth_authnode.admin import Refused
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
