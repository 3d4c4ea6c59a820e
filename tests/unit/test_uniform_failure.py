"""Rule 5: before a caller is authenticated every failure is the same bytes on the wire, whatever went wrong.

The causes here are those that the protocol core finds; an unknown id, a deleted key and a full replay table are the service's,
and have the same types of error.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.support.ticketing import (
    CLIENT_KEY,
    NOW,
    OTHER_KEY,
    SERVICE_KEY,
    TICKET,
    a_grant,
    ask_ticket,
    prove_access_request,
    prove_ticket_request,
)

from cubeauth import exchange, messages, ticket, verifier
from cubeauth.compat import envelope
from cubeauth.entropy import system
from cubeauth.errors import AuthenticationFailed, PeerError, Reason, ReplayDetected, ReplayTableFull
from cubeauth.ids import AUTH_SERVICE, MASTER_SERVICE
from cubeauth.messages import MsgType
from cubeauth.secret import SecretBytes

ON_THE_WIRE = '{"code":2,"msg":"authentication failed","data":null}'
ROUTE = messages.ROUTE_OF_WORD["getkey"]


def _form(members: object) -> bytes:
    return messages.encode_form(json.dumps(members))


def _ticket_forms() -> Iterator[tuple[str, bytes]]:
    good = messages.decode_form(ask_ticket().body)
    key = CLIENT_KEY.reveal()
    yield "no token", b""
    yield "two tokens", ask_ticket().body + b"&Token=x"
    yield "token not base64", b"Token=!"
    yield "token not JSON", b"Token=aGVsbG8="
    yield "token a list", b"Token=W10="
    yield "nested too deep", messages.encode_form("[" * 100_000)
    yield "member twice", messages.encode_form('{"type":1,"type":1}')
    yield "other type", _form(good | {"type": 0x120000})
    yield "type a text", _form(good | {"type": "x"})
    yield "id of no principal", _form(good | {"client_id": "no-such"})
    yield "service of no principal", _form(good | {"service_id": "\ud800"})
    yield "no verifier", _form(good | {"verifier": None})
    yield "verifier not base64", _form(good | {"verifier": "!"})
    yield "verifier too short", _form(good | {"verifier": base64.b64encode(bytes(32)).decode()})
    yield "verifier of another key", ask_ticket(key=OTHER_KEY).body
    yield "verifier of 4 bytes", _form(good | {"verifier": envelope.seal(key, b"1234", system).decode()})
    yield "verifier of 41 bytes of another kind", _form(good | {"verifier": envelope.seal(key, bytes(41), system).decode()})
    yield "verifier garbled in the padding", _form(good | {"verifier": _flipped(good["verifier"], -17)})
    yield "verifier garbled in the checksum", _form(good | {"verifier": _flipped(good["verifier"], 12)})
    yield "verifier too old", ask_ticket(now=NOW - 10).body
    yield "verifier ahead", ask_ticket(now=NOW + 10).body
    yield "verifier at the end of int64", _form(good | {"verifier": verifier.seal(key, (1 << 63) - 1, system)})
    yield "body changed", _form(good | {"service_id": AUTH_SERVICE})


def _flipped(text: str, at: int) -> str:
    raw = bytearray(base64.b64decode(text))
    raw[at] ^= 0x40
    return base64.b64encode(raw).decode()


def _access_forms() -> Iterator[tuple[str, bytes]]:
    def form(change: dict[str, Any] | None = None, *, now: float = NOW, **of_ticket: Any) -> bytes:
        grant = a_grant(**of_ticket)
        sent = exchange.ask_access(grant, MsgType.GET_KEY, {"key_info": {"id": "a"}}, now=now, entropy=system)
        members = messages.decode_form(sent.body)
        members["api_req"] |= change or {}
        return _form(members)

    def sealed(key: SecretBytes, issued: ticket.Ticket) -> dict[str, Any]:
        return {"ticket": ticket.seal(key.reveal(), issued, system)}

    yield "no request in it", _form({"key_info": {}})
    yield "other type", form({"type": 0x151000})
    yield "no ticket", form({"ticket": ""})
    yield "ticket not base64", form({"ticket": "!"})
    yield "ticket too long", form({"ticket": "A" * 100_000})
    yield "ticket under another key", form(sealed(OTHER_KEY, TICKET))
    yield "ticket for another service", form(sealed(SERVICE_KEY, TICKET))
    yield "ticket that is no JSON", form({"ticket": envelope.seal(SERVICE_KEY.reveal(), b"x", system).decode()})
    yield "ticket of another client", form(client_id="admin")
    yield "ticket of stock, of no client", form(client_id="")
    yield "verifier of another session", form({"verifier": verifier.seal(OTHER_KEY.reveal(), NOW, system)})
    yield "verifier too old", form(now=NOW - 10)
    yield "verifier ahead", form(now=NOW + 10)
    yield "body changed", form({"extra": 1})
    yield "expired, under a verifier of another session", form({"verifier": verifier.seal(bytes(32), NOW, system)}, exp=NOW - 1)


def _prove_access(form: bytes) -> object:
    return prove_access_request(form, ROUTE)


CASES: list[tuple[str, Callable[[bytes], object], bytes]] = [
    *((f"ticket: {name}", prove_ticket_request, form) for name, form in _ticket_forms()),
    *((f"admin: {name}", _prove_access, form) for name, form in _access_forms()),
]


@pytest.mark.parametrize(("prove", "form"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_rule_5_every_failure_before_authentication_is_the_same_on_the_wire(
    prove: Callable[[bytes], object], form: bytes
) -> None:
    with pytest.raises(PeerError) as caught:
        prove(form)
    assert messages.refusal(caught.value) == ON_THE_WIRE


@pytest.mark.parametrize("error", [AuthenticationFailed, ReplayDetected, ReplayTableFull])
@pytest.mark.parametrize(
    "reason", [Reason.UNKNOWN_CLIENT, Reason.UNKNOWN_SERVICE, Reason.VERIFIER_REPLAYED, Reason.REPLAY_TABLE_FULL]
)
def test_rule_5_what_the_service_finds_before_authentication_is_the_same_too(
    error: type[AuthenticationFailed], reason: Reason
) -> None:
    assert messages.refusal(error("no key of id 'admin'", reason=reason)) == ON_THE_WIRE


def test_the_requests_that_these_were_made_of_pass() -> None:
    prove_ticket_request(ask_ticket().body)
    grant = dataclasses.replace(a_grant(), service_id=AUTH_SERVICE)
    _prove_access(exchange.ask_access(grant, MsgType.GET_KEY, {"key_info": {"id": "a"}}, now=NOW, entropy=system).body)
    assert TICKET.service_id == MASTER_SERVICE
