"""Requests and replies, our client's half and our server's half back to back, and what neither takes."""

from __future__ import annotations

import base64
import dataclasses
import json
from typing import Any

import pytest
from tests.support import vectors
from tests.support.ticketing import (
    CLIENT,
    CLIENT_KEY,
    NOW,
    OTHER_KEY,
    SERVICE_KEY,
    SESSION_KEY,
    TICKET,
    a_grant,
    answer_ticket,
    ask_ticket,
    prove_access_request,
    prove_ticket_request,
)

from cubeauth import exchange, messages, strictjson, ticket, verifier
from cubeauth.compat import envelope
from cubeauth.entropy import system
from cubeauth.errors import AuthenticationFailed, InputError, MalformedMessage, Reason, ServerRefused
from cubeauth.ids import AUTH_SERVICE, MASTER_SERVICE
from cubeauth.messages import MsgType
from cubeauth.secret import SecretBytes

GET_KEY = messages.ROUTE_OF_WORD["getkey"]
PAYLOAD = {"key_info": {"id": "a"}}


def _members(form: bytes) -> dict[str, Any]:
    return messages.decode_form(form)


def _form(members: object) -> bytes:
    return messages.encode_form(json.dumps(members))


def _reply(sent: exchange.Sent, members: object, key: SecretBytes | None = None) -> bytes:
    text = envelope.seal((key or sent.key).reveal(), json.dumps(members).encode(), system).decode()
    return messages.success(text).encode()


def _access(now: float = NOW) -> exchange.Sent:
    return exchange.ask_access(a_grant(), MsgType.GET_KEY, PAYLOAD, now=now, entropy=system)


def test_ticket_request_and_reply_back_to_back() -> None:
    sent = ask_ticket(now=NOW + 0.9)
    grant = exchange.accept_ticket(sent, answer_ticket(sent.body))
    assert (grant.client_id, grant.service_id, grant.c_time, grant.exp) == (CLIENT, MASTER_SERVICE, TICKET.c_time, TICKET.exp)
    assert grant.session_key == SESSION_KEY
    assert ticket.open_(SERVICE_KEY.reveal(), grant.ticket) == TICKET


def test_ticket_reply_is_written_as_an_encoder_would_with_stocks_members_in_stocks_order() -> None:
    sent = ask_ticket()
    data = json.loads(answer_ticket(sent.body))["data"]
    members = vectors.stock_open_json(CLIENT_KEY.reveal(), data)
    assert vectors.stock_open(CLIENT_KEY.reveal(), data).plaintext == json.dumps(members, separators=(",", ":")).encode()
    stock = vectors.exchange("good request").granted
    assert list(members) == [*stock, "exp"]
    assert list(members["session_key"]) == list(stock["session_key"])


def test_alias_of_a_service_is_echoed_as_it_was_asked() -> None:
    sent = ask_ticket("MetaService")
    assert exchange.accept_ticket(sent, answer_ticket(sent.body)).service_id == "MetaService"


def test_access_request_and_reply_back_to_back() -> None:
    sent = _access()
    request, proof, opened = prove_access_request(sent.body, GET_KEY)
    assert (request.unverified_client_id, request.service_id, request.payload) == (CLIENT, AUTH_SERVICE, PAYLOAD["key_info"])
    assert opened.client_id == CLIENT
    assert proof.body_hash is not None
    reply = exchange.seal_access_reply(request, SESSION_KEY.reveal(), proof, {"key_info": {"id": "a", "n": [1]}}, system)
    accepted = exchange.accept_access(sent, reply.encode())
    assert accepted["key_info"] == {"id": "a", "n": [1]}
    assert list(accepted) == ["api_resp", "key_info"]
    assert list(accepted["api_resp"]) == ["type", "client_id", "service_id", "verifier"]


def test_f2_form_stands_flat_with_its_verifier_bound() -> None:
    grant = dataclasses.replace(a_grant(), service_id=MASTER_SERVICE)
    sent = exchange.ask_access(grant, MsgType.ACCESS_VOLUME, None, now=NOW, entropy=system)
    members = _members(sent.body)
    assert list(members) == ["type", "client_id", "service_id", "ticket", "verifier"]
    proof = verifier.open_(SESSION_KEY.reveal(), verifier.decode(members["verifier"]))
    exchange.check_binding(proof, members, members)
    assert proof.time == NOW


@pytest.mark.parametrize("name", ["type", "client_id", "service_id", "extra"])
def test_rule_6_changing_a_ticket_request_on_its_way_shows(name: str) -> None:
    members = _members(ask_ticket().body)
    members[name] = {"type": MsgType.GET_TICKET, "client_id": "admin", "service_id": AUTH_SERVICE, "extra": 1}[name]
    if name == "type":
        members["type2"] = members.pop("type")
        members["type"] = int(MsgType.GET_TICKET)
    with pytest.raises(AuthenticationFailed) as caught:
        prove_ticket_request(_form(members))
    assert caught.value.reason is Reason.BAD_VERIFIER


@pytest.mark.parametrize(
    "change", [{"key_info": {"id": "MasterService"}}, {"extra": None}, {"key_info": {"id": "a", "caps": "e30="}}]
)
def test_rule_6_changing_an_admin_request_on_its_way_shows(change: dict[str, Any]) -> None:
    with pytest.raises(AuthenticationFailed) as caught:
        prove_access_request(_form(_members(_access().body) | change), GET_KEY)
    assert caught.value.reason is Reason.BAD_VERIFIER


def test_rule_6_another_order_spacing_or_escaping_of_the_same_request_is_the_same() -> None:
    members = _members(ask_ticket().body)
    text = json.dumps(dict(sorted(members.items(), reverse=True)), indent=3).replace("ltptest", "\\u006ctptest")
    prove_ticket_request(messages.encode_form(text))


def test_rule_6_the_members_are_as_they_were_after_the_check_of_either_outcome() -> None:
    members = _members(ask_ticket().body)
    before = json.dumps(members)
    exchange.check_binding(verifier.open_(CLIENT_KEY.reveal(), verifier.decode(members["verifier"])), members, members)
    assert json.dumps(members) == before
    with pytest.raises(AuthenticationFailed):
        exchange.check_binding(verifier.Verifier(NOW, bytes(32)), members, members)
    assert json.dumps(members) == before


def test_rule_6_a_request_of_stock_is_not_bound_and_passes() -> None:
    members = _members(ask_ticket().body) | {"verifier": verifier.seal(CLIENT_KEY.reveal(), NOW, system), "extra": 1}
    prove_ticket_request(_form(members))


@pytest.mark.parametrize("kind", [0, 1, 0x110001, 0x120000, 0x151000, True, 1114112.0, "1114112", None])
def test_rule_8_type_that_is_not_the_tickets_paths_is_refused(kind: object) -> None:
    with pytest.raises(MalformedMessage):
        exchange.parse_ticket_request(_form(_members(ask_ticket().body) | {"type": kind}))


@pytest.mark.parametrize("route", messages.ADMIN_ROUTES, ids=lambda route: route.word)
def test_rule_8_type_is_good_on_its_own_path_only(route: messages.AdminRoute) -> None:
    payload: dict[str, Any] = {name: {} for name in ("key_info", "node_info", "access_key_caps", "page")}
    form = exchange.ask_access(a_grant(), route.type, payload, now=NOW, entropy=system).body
    assert exchange.parse_access_request(form, route).type == route.type
    for other in messages.ADMIN_ROUTES:
        if other is not route:
            with pytest.raises(MalformedMessage):
                exchange.parse_access_request(form, other)


BAD_IDS = [None, 1, "", "1a", "a-b", "a\n", "é", "\ud800", 'a","x":"', "a" * 22, ["a"]]


@pytest.mark.parametrize("name", ["client_id", "service_id"])
@pytest.mark.parametrize("value", BAD_IDS, ids=ascii)
def test_id_that_no_principal_has_is_malformed_at_once(name: str, value: object) -> None:
    with pytest.raises(MalformedMessage, match=f"^{name}: "):
        exchange.parse_ticket_request(_form(_members(ask_ticket().body) | {name: value}))
    access = _members(_access().body)
    access["api_req"][name] = value
    with pytest.raises(MalformedMessage, match=f"^{name}: "):
        exchange.parse_access_request(_form(access), GET_KEY)


@pytest.mark.parametrize("name", ["api_req", "key_info"])
@pytest.mark.parametrize("value", [None, [], "x", 1])
def test_part_of_an_admin_request_that_is_no_object_is_malformed(name: str, value: object) -> None:
    with pytest.raises(MalformedMessage, match=f"^{name}: "):
        exchange.parse_access_request(_form(_members(_access().body) | {name: value}), GET_KEY)


@pytest.mark.parametrize("name", ["type", "client_id", "service_id", "verifier", "ticket"])
def test_member_that_an_admin_request_lacks_is_malformed(name: str) -> None:
    members = _members(_access().body)
    del members["api_req"][name]
    with pytest.raises(MalformedMessage):
        exchange.parse_access_request(_form(members), GET_KEY)


def test_rule_7_ticket_under_another_name_is_refused() -> None:
    grant = dataclasses.replace(a_grant(), client_id="admin")
    sent = exchange.ask_access(grant, MsgType.GET_KEY, PAYLOAD, now=NOW, entropy=system)
    with pytest.raises(AuthenticationFailed) as caught:
        prove_access_request(sent.body, GET_KEY)
    assert caught.value.reason is Reason.OTHER_CLIENT


REPLY = {"type": MsgType.GET_KEY + 1, "client_id": CLIENT, "service_id": AUTH_SERVICE, "verifier": NOW + 1}
MISFITS = [
    ("type", MsgType.GET_KEY),
    ("type", MsgType.GET_CAPS + 1),
    ("client_id", "admin"),
    ("client_id", None),
    ("service_id", MASTER_SERVICE),
    ("verifier", NOW),
    ("verifier", NOW + 2),
    ("verifier", str(NOW + 1)),
    ("verifier", True),
]


@pytest.mark.parametrize(("name", "value"), MISFITS)
def test_reply_to_another_request_is_refused(name: str, value: object) -> None:
    sent = _access()
    assert exchange.accept_access(sent, _reply(sent, {"api_resp": REPLY, "data": 1}))["data"] == 1
    for changed in (REPLY | {name: value}, {kept: REPLY[kept] for kept in REPLY if kept != name}):
        with pytest.raises(AuthenticationFailed) as caught:
            exchange.accept_access(sent, _reply(sent, {"api_resp": changed}))
        assert caught.value.reason is Reason.OUT_OF_PLACE


def test_reply_to_a_request_made_at_second_zero_is_not_answered_by_true() -> None:
    sent = _access(now=0)
    with pytest.raises(AuthenticationFailed):
        exchange.accept_access(sent, _reply(sent, {"api_resp": REPLY | {"verifier": True}}))


def test_reply_under_another_key_does_not_open() -> None:
    sent = _access()
    with pytest.raises(AuthenticationFailed):
        exchange.accept_access(sent, _reply(sent, {"api_resp": REPLY}, OTHER_KEY))


@pytest.mark.parametrize("members", [[], "x", None, {}, {"api_resp": None}, {"api_resp": []}])
def test_sealed_reply_of_another_form_is_malformed(members: object) -> None:
    sent = _access()
    with pytest.raises(MalformedMessage):
        exchange.accept_access(sent, _reply(sent, members))


GRANTED: dict[str, Any] = {
    "type": MsgType.GET_TICKET + 1,
    "client_id": CLIENT,
    "service_id": MASTER_SERVICE,
    "verifier": NOW + 1,
    "ticket": "YQ==",
    "session_key": {"c_time": NOW, "key": base64.b64encode(bytes(32)).decode()},
}
BAD_GRANTS: dict[str, dict[str, Any]] = {
    "no ticket": {"ticket": None},
    "ticket a list": {"ticket": []},
    "no session key": {"session_key": None},
    "session key of 16 bytes": {"session_key": {"c_time": NOW, "key": base64.b64encode(bytes(16)).decode()}},
    "session key not base64": {"session_key": {"c_time": NOW, "key": "?"}},
    "c_time a text": {"session_key": {"c_time": "1", "key": GRANTED["session_key"]["key"]}},
    "exp null": {"exp": None},
    "exp true": {"exp": True},
    "exp beyond what a timer can take": {"exp": 10**400},
}


@pytest.mark.parametrize("change", BAD_GRANTS.values(), ids=BAD_GRANTS)
def test_bad_grant_is_malformed(change: dict[str, Any]) -> None:
    sent = ask_ticket()
    assert exchange.accept_ticket(sent, _reply(sent, GRANTED)).exp == NOW + ticket.STOCK_LIFETIME
    assert exchange.accept_ticket(sent, _reply(sent, GRANTED | {"exp": NOW + 5})).exp == NOW + 5
    with pytest.raises(MalformedMessage):
        exchange.accept_ticket(sent, _reply(sent, GRANTED | change))


def test_refusal_reaches_the_caller_with_its_code() -> None:
    with pytest.raises(ServerRefused) as caught:
        exchange.accept_ticket(ask_ticket(), b'{"code":43,"msg":"expired ticket","data":null}')
    assert (caught.value.server_code, caught.value.detail) == (43, "expired ticket")


def test_ticket_file_both_ways_in_the_order_of_the_stock_tool() -> None:
    grant = a_grant()
    text = exchange.ticket_file(grant)
    assert list(json.loads(text)) == ["id", "session_key", "service_id", "ticket"]
    assert text.startswith('{\n  "id": "ltptest",\n  "session_key": "')
    assert exchange.parse_ticket_file(text) == dataclasses.replace(grant, c_time=0, exp=0)


SESSION_TEXT = strictjson.b64encode(SESSION_KEY.reveal())
FILE = {"id": CLIENT, "session_key": SESSION_TEXT, "service_id": AUTH_SERVICE, "ticket": "VElDS0VU" * 8}
BAD_FILES: dict[str, tuple[dict[str, Any] | str | bytes, str, str]] = {
    "empty file": ("", "", "not JSON"),
    "a list": ("[]", "", "not a JSON object"),
    "no text": (b"\xff", "", "not JSON"),
    "a member twice": ('{"id":"a","id":"a"}', "", "duplicated JSON member"),
    "no id": ({"id": None}, "id", "missing or not a string"),
    "id an object": ({"id": {"k": SESSION_TEXT}}, "id", "missing or not a string"),
    "id with a dash": ({"id": "a-b"}, "id", "'a-b' is not an id"),
    "the session key where the id belongs": ({"id": SESSION_TEXT}, "id", "a text of 44 characters is not an id"),
    "no session key": ({"session_key": None}, "session_key", "missing or not a string"),
    "session key not base64": ({"session_key": SESSION_TEXT[:-1]}, "session_key", "not 32 bytes in base64"),
    "session key of 16 bytes": ({"session_key": "A" * 22 + "=="}, "session_key", "not 32 bytes in base64"),
    "no service": ({"service_id": ""}, "service_id", "missing or not a string"),
    "ticket a list": ({"ticket": [1]}, "ticket", "missing or not a string"),
    "no ticket": ({"ticket": ""}, "ticket", "missing or not a string"),
}


@pytest.mark.parametrize(("content", "field", "problem"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_ticket_file_is_one_line_with_field_and_problem_and_no_secret(
    content: dict[str, Any] | str | bytes, field: str, problem: str
) -> None:
    with pytest.raises(InputError) as caught:
        exchange.parse_ticket_file(json.dumps(FILE | content) if isinstance(content, dict) else content)
    assert (caught.value.field, caught.value.problem) == (field, problem)
    assert caught.value.remedy
    line = str(caught.value.located("ticket.json"))
    assert line.startswith("ticket.json: ")
    assert "\n" not in line
    assert SESSION_TEXT[:12] not in line
    assert FILE["ticket"] not in line
