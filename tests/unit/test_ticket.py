"""Tickets: what stands in one, whose it is, until when; and that nothing else can be written into one."""

from __future__ import annotations

import base64
import dataclasses
import ipaddress
import json
from typing import Any

import pytest
from tests.support import vectors
from tests.support.ticketing import CLIENT, NOW, OTHER_KEY, SERVICE_KEY, SESSION_KEY, TICKET

from cubeauth import ticket
from cubeauth.compat import envelope
from cubeauth.entropy import system
from cubeauth.errors import AuthenticationFailed, LocalMisuse, MalformedMessage, Reason, TicketExpired
from cubeauth.ids import AUTH_SERVICE, MASTER_SERVICE

KEY = SERVICE_KEY.reveal()
STOCK: dict[str, Any] = {
    "version": 1,
    "service_id": MASTER_SERVICE,
    "session_key": {"c_time": NOW, "key": base64.b64encode(SESSION_KEY.reveal()).decode()},
    "exp": NOW + 86400,
    "ip": "10.0.0.1",
    "caps": base64.b64encode(b"{}").decode(),
}


def _sealed(members: object) -> str:
    return envelope.seal(KEY, json.dumps(members).encode(), system).decode()


def test_both_ways() -> None:
    assert ticket.open_(KEY, ticket.seal(KEY, TICKET, system)) == TICKET


def test_rule_2_what_stands_in_a_ticket_is_stocks_members_as_stock_writes_them_and_ours() -> None:
    text = ticket.seal(KEY, TICKET, system)
    members = vectors.stock_open_json(KEY, text)
    assert list(members) == ["version", "service_id", "session_key", "exp", "ip", "caps", "client_id", "jti", "kvno"]
    assert base64.b64decode(members["caps"]).decode() == TICKET.caps
    assert (members["client_id"], members["jti"], members["kvno"]) == (CLIENT, TICKET.jti, TICKET.kvno)
    compact = json.dumps(members, separators=(",", ":")).encode()
    assert vectors.stock_open(KEY, text).plaintext == compact, "what is written by hand is what an encoder would write"


def test_ticket_of_stock_opens_and_names_no_client() -> None:
    opened = ticket.open_(KEY, _sealed(STOCK))
    assert opened == ticket.Ticket(MASTER_SERVICE, SESSION_KEY, NOW, NOW + 86400, "10.0.0.1", "{}")


def test_members_that_we_do_not_know_are_room_for_later() -> None:
    assert ticket.open_(KEY, _sealed(STOCK | {"min_proto": 2})).service_id == MASTER_SERVICE


BAD: dict[str, dict[str, Any]] = {
    "version 0": {"version": 0},
    "version 2": {"version": 2},
    "version true": {"version": True},
    "no version": {"version": ...},
    "service_id null": {"service_id": None},
    "no session key": {"session_key": ...},
    "session key a text": {"session_key": "x"},
    "session key without its bytes": {"session_key": {"c_time": NOW}},
    "session key of 31 bytes": {"session_key": {"c_time": NOW, "key": base64.b64encode(bytes(31)).decode()}},
    "session key not base64": {"session_key": {"c_time": NOW, "key": "!"}},
    "c_time a fraction": {"session_key": {"c_time": 1.5, "key": STOCK["session_key"]["key"]}},
    "no exp": {"exp": ...},
    "exp true": {"exp": True},
    "exp a text": {"exp": "1"},
    "exp over 64 bits": {"exp": 10**400},
    "ip a number": {"ip": 1},
    "caps an object": {"caps": {"API": []}},
    "caps not base64": {"caps": "{}"},
    "caps not text": {"caps": base64.b64encode(b"\xff").decode()},
    "client_id null": {"client_id": None},
    "client_id a list": {"client_id": ["a"]},
    "jti a number": {"jti": 5},
    "kvno a text": {"kvno": "1"},
    "kvno true": {"kvno": True},
    "kvno null": {"kvno": None},
    "kvno over 64 bits": {"kvno": -(10**400)},
}


@pytest.mark.parametrize("change", BAD.values(), ids=BAD)
def test_rule_7_ticket_of_another_version_or_form_is_malformed(change: dict[str, Any]) -> None:
    members = {name: value for name, value in (STOCK | change).items() if value is not ...}
    with pytest.raises(MalformedMessage):
        ticket.open_(KEY, _sealed(members))


@pytest.mark.parametrize("plain", [b"x", b"[]", b'"x"', b"\xff", b'{"version":1,"version":1}'])
def test_what_is_no_object_is_malformed(plain: bytes) -> None:
    with pytest.raises(MalformedMessage):
        ticket.open_(KEY, envelope.seal(KEY, plain, system).decode())


def test_longer_than_any_ticket_is_malformed_before_work() -> None:
    text = envelope.seal(OTHER_KEY.reveal(), bytes(ticket.MAX_TICKET_TEXT), system).decode()
    with pytest.raises(MalformedMessage, match="ticket length"):
        ticket.open_(KEY, text)


def test_rule_7_ticket_of_another_services_key_does_not_open() -> None:
    with pytest.raises(AuthenticationFailed):
        ticket.open_(OTHER_KEY.reveal(), ticket.seal(KEY, TICKET, system))


def test_rule_7_ticket_of_another_service_is_refused() -> None:
    ticket.check(TICKET, service_id=MASTER_SERVICE, client_id=CLIENT)
    with pytest.raises(AuthenticationFailed) as caught:
        ticket.check(TICKET, service_id=AUTH_SERVICE, client_id=CLIENT)
    assert caught.value.reason is Reason.OTHER_SERVICE


@pytest.mark.parametrize(("holder", "asked"), [(CLIENT, "admin"), ("", CLIENT), ("", ""), ("a-b", "a-b"), ("a\n", "a\n")])
def test_rule_7_ticket_of_another_client_or_of_none_is_refused(holder: str, asked: str) -> None:
    with pytest.raises(AuthenticationFailed) as caught:
        ticket.check(dataclasses.replace(TICKET, client_id=holder), service_id=MASTER_SERVICE, client_id=asked)
    assert caught.value.reason is Reason.OTHER_CLIENT


@pytest.mark.parametrize(
    ("exp", "now"), [(NOW, float(NOW)), (NOW, NOW + 0.5), (0, 1.0), (-(1 << 63), 0.0), (NOW, float("inf")), (0, 0.0)]
)
def test_rule_7_ticket_at_its_end_is_expired(exp: int, now: float) -> None:
    with pytest.raises(TicketExpired) as caught:
        ticket.check_lifetime(dataclasses.replace(TICKET, exp=exp), now=now)
    assert caught.value.code == 43


@pytest.mark.parametrize(("exp", "now"), [(NOW, NOW - 0.000_001), ((1 << 63) - 1, float(NOW)), (1, 0.0)])
def test_ticket_before_its_end_is_good(exp: int, now: float) -> None:
    ticket.check_lifetime(dataclasses.replace(TICKET, exp=exp), now=now)


ZONE = 'fe80::1%","exp":9999999999,"x":"'


def test_an_ip_address_may_hold_json_which_is_why_seal_looks() -> None:
    assert str(ipaddress.ip_address(ZONE)) == ZONE


@pytest.mark.parametrize("member", ["service_id", "client_id", "jti", "ip"])
@pytest.mark.parametrize("value", [ZONE, '"', "\\", "a\n", "\x00", "é", "\ud800", "a b", "{", "a,b"], ids=ascii)
def test_no_id_jti_or_address_writes_members_of_its_own_into_a_ticket(member: str, value: str) -> None:
    change: dict[str, Any] = {member: value}
    with pytest.raises(LocalMisuse) as caught:
        ticket.seal(KEY, dataclasses.replace(TICKET, **change), system)
    assert value not in str(caught.value)


@pytest.mark.parametrize("ip", ["", "10.0.0.1", "::1", "fe80::1%eth0", "::ffff:10.0.0.1"])
def test_every_form_of_address_is_sealed(ip: str) -> None:
    sealed = ticket.seal(KEY, dataclasses.replace(TICKET, ip=ip), system)
    assert ticket.open_(KEY, sealed).ip == ip


def test_capabilities_may_hold_any_text() -> None:
    hostile = dataclasses.replace(TICKET, caps='{"API":["\u00e9\\"\\\\"]}')
    assert ticket.open_(KEY, ticket.seal(KEY, hostile, system)) == hostile
