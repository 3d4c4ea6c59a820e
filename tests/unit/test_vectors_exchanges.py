"""Every exchange of authnode-v1-exchanges.json, recorded from a stock Authnode, at the level of the protocol core.

Requests go through our server's half (parse, verifier, ticket), replies through our client's half. What stock refused becomes
ServerRefused with its code; where ours refuses what stock granted, the test shows both.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
from tests.support import vectors
from tests.support.vectors import Exchange

from cubeauth import exchange, keys, messages, strictjson, ticket, verifier
from cubeauth.entropy import scripted
from cubeauth.errors import AuthenticationFailed, CubeauthError, MalformedMessage, PeerError, Reason, ServerRefused, TicketExpired
from cubeauth.ids import AUTH_SERVICE
from cubeauth.messages import MsgType
from cubeauth.secret import SecretBytes

ALL = vectors.exchanges()
AUTHTOOL_EXCHANGES, HAND_MADE_EXCHANGES = 29, 34

# What our server's half says of a request, given the right keys: the error and
# its reason. A request that is not named here passes it; whether the key, role
# or capability in it exists is the service's question, not the core's.
REFUSED: dict[str, tuple[type[PeerError], Reason]] = {
    "verifier 10 s old": (AuthenticationFailed, Reason.VERIFIER_SKEW),
    "verifier 1 h old": (AuthenticationFailed, Reason.VERIFIER_SKEW),
    "verifier 1 h ahead": (AuthenticationFailed, Reason.VERIFIER_SKEW),
    "stale verifier": (AuthenticationFailed, Reason.VERIFIER_SKEW),
    "no token": (MalformedMessage, Reason.MALFORMED),
    "token empty": (MalformedMessage, Reason.MALFORMED),
    "token not base64": (MalformedMessage, Reason.MALFORMED),
    "token not JSON": (MalformedMessage, Reason.MALFORMED),
    "JSON is a list": (MalformedMessage, Reason.MALFORMED),
    "GET without token": (MalformedMessage, Reason.MALFORMED),
    "client id with a bad character": (MalformedMessage, Reason.MALFORMED),
    "verifier missing": (MalformedMessage, Reason.MALFORMED),
    "verifier not base64": (MalformedMessage, Reason.BAD_ENVELOPE),
    "verifier of the wrong key": (AuthenticationFailed, Reason.BAD_ENVELOPE),
    "verifier of 4 bytes": (AuthenticationFailed, Reason.BAD_VERIFIER),
    "type 0": (MalformedMessage, Reason.MALFORMED),
    "type a string": (MalformedMessage, Reason.MALFORMED),
    "type of master ticket": (MalformedMessage, Reason.MALFORMED),
    "path and type differ": (MalformedMessage, Reason.MALFORMED),
    "ticket of another key": (AuthenticationFailed, Reason.BAD_ENVELOPE),
    "expired ticket": (TicketExpired, Reason.TICKET_EXPIRED),
}
DROPPED_BY_STOCK = {"verifier of the wrong key", "verifier of 4 bytes", "ticket of another key"}


def _names(found: Exchange) -> str:
    return found.name


def each(wanted: Callable[[Exchange], bool]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("recorded", [one for one in ALL if wanted(one)], ids=_names)


def _serve(recorded: Exchange) -> tuple[exchange.TicketRequest | exchange.AccessRequest, verifier.Verifier]:
    """Our server's half: parse; for an admin request open the ticket; open and check the verifier."""
    request: exchange.TicketRequest | exchange.AccessRequest
    if recorded.is_ticket_request:
        request = exchange.parse_ticket_request(recorded.form)
        key = recorded.key
    else:
        request = exchange.parse_access_request(recorded.form, messages.ROUTE_OF_PATH[recorded.path])
        opened = ticket.open_(vectors.auth_service_key(), request.ticket)
        ticket.check_lifetime(opened, now=recorded.at)
        assert opened.service_id == request.service_id == AUTH_SERVICE
        key = opened.session_key.reveal()
        assert key == recorded.session_key
    proof = verifier.open_(key, request.unverified_proof)
    verifier.check(proof, now=recorded.at)
    return request, proof


@each(lambda one: one.name not in REFUSED and one.stock_answer != "no route")
def test_request_parses_and_its_proof_opens(recorded: Exchange) -> None:
    request, proof = _serve(recorded)
    sent = recorded.access
    assert request.unverified_client_id == sent["client_id"]
    assert request.service_id == sent["service_id"]
    assert -verifier.SKEW < recorded.at - proof.time < verifier.SKEW
    assert proof.body_hash is None, "stock's verifiers are not bound"
    if isinstance(request, exchange.AccessRequest):
        assert request.payload == recorded.request[messages.ROUTE_OF_PATH[recorded.path].payload]
        assert request.type == sent["type"]


@each(lambda one: one.name in REFUSED)
def test_bad_request_is_a_declared_error_with_its_reason(recorded: Exchange) -> None:
    error, reason = REFUSED[recorded.name]
    with pytest.raises(CubeauthError) as caught:
        _serve(recorded)
    assert type(caught.value) is error
    assert isinstance(caught.value, PeerError)
    assert caught.value.reason is reason
    assert (recorded.stock_answer == "dropped") == (recorded.name in DROPPED_BY_STOCK), "no dropped connection: rule 5"
    if recorded.stock_answer == "granted":
        assert recorded.name in vectors.REFUSED_BY_OURS


def test_each_deviation_is_one() -> None:
    for name in vectors.REFUSED_BY_OURS:
        assert vectors.exchange(name).stock_answer == "granted"
    for name in vectors.GRANTED_BY_OURS:
        assert vectors.exchange(name).stock_answer == "refused"


def test_replayed_verifier_has_the_same_replay_key_and_another_has_not() -> None:
    first, second, other = (vectors.exchange(name) for name in ("replay, first", "replay, second", "good request"))
    assert second.stock_answer == "granted"
    seen = [
        verifier.replay_key(request.unverified_client_id, request.unverified_proof)
        for request in (exchange.parse_ticket_request(one.form) for one in (first, second, other))
    ]
    assert seen[0] == seen[1] != seen[2]


@each(lambda one: one.path in messages.ROUTE_OF_PATH and one.name not in REFUSED)
def test_ticket_of_stock_names_no_client_and_so_is_nobodys(recorded: Exchange) -> None:
    access = recorded.access
    opened = ticket.open_(vectors.auth_service_key(), access["ticket"])
    assert (opened.client_id, opened.jti, opened.kvno) == ("", "", 0)
    with pytest.raises(AuthenticationFailed) as caught:
        ticket.check(opened, service_id=AUTH_SERVICE, client_id=access["client_id"])
    assert caught.value.reason is Reason.OTHER_CLIENT


def test_client_id_that_is_not_the_ticket_holders_is_refused_where_stock_grants() -> None:
    recorded = vectors.exchange("client id is not the ticket holder")
    assert recorded.stock_answer == "granted"
    ours = ticket.Ticket(AUTH_SERVICE, SecretBytes(recorded.key), recorded.at, recorded.at + 60, "", "{}", client_id="adm85000")
    with pytest.raises(AuthenticationFailed) as caught:
        ticket.check(ours, service_id=AUTH_SERVICE, client_id=recorded.access["client_id"])
    assert caught.value.reason is Reason.OTHER_CLIENT


def _is_ours(recorded: Exchange) -> bool:
    """Whether our client could have sent this: its type is the path's."""
    return recorded.name not in ("type 0", "type of master ticket", "path and type differ")


def _sent(recorded: Exchange, kind: MsgType | None = None) -> exchange.Sent:
    """What our client would hold of the recorded request."""
    access = recorded.access
    time = int.from_bytes(vectors.stock_open(recorded.key, access["verifier"]).plaintext, "little", signed=True)
    return exchange.Sent(
        recorded.form, kind or MsgType(access["type"]), access["client_id"], access["service_id"], time, SecretBytes(recorded.key)
    )


@each(lambda one: one.stock_answer == "granted" and one.is_ticket_request and _is_ours(one))
def test_ticket_reply_is_accepted_with_what_stock_put_in(recorded: Exchange) -> None:
    grant = exchange.accept_ticket(_sent(recorded), recorded.response)
    granted = recorded.granted
    assert (grant.client_id, grant.service_id, grant.ticket) == (granted["client_id"], granted["service_id"], granted["ticket"])
    assert grant.session_key == SecretBytes(base64.b64decode(granted["session_key"]["key"]))
    assert grant.c_time == granted["session_key"]["c_time"]
    assert grant.exp == grant.c_time + ticket.STOCK_LIFETIME
    if recorded.service_key is not None:
        opened = ticket.open_(recorded.service_key, grant.ticket)
        inside = vectors.stock_open_json(recorded.service_key, grant.ticket)
        assert opened == ticket.Ticket(
            inside["service_id"],
            grant.session_key,
            grant.c_time,
            inside["exp"],
            inside["ip"],
            base64.b64decode(inside["caps"]).decode(),
        )
        assert opened.exp == grant.exp, "what the client assumes of a stock ticket is what stock put in"


@each(lambda one: one.stock_answer == "granted" and not one.is_ticket_request and _is_ours(one))
def test_admin_reply_is_accepted_with_what_stock_put_in(recorded: Exchange) -> None:
    assert exchange.accept_access(_sent(recorded), recorded.response) == recorded.granted


@each(lambda one: one.stock_answer == "granted" and not _is_ours(one))
def test_reply_of_another_type_is_refused_by_our_client(recorded: Exchange) -> None:
    kind = MsgType.GET_TICKET if recorded.is_ticket_request else messages.ROUTE_OF_PATH[recorded.path].type
    accept = exchange.accept_ticket if recorded.is_ticket_request else exchange.accept_access
    with pytest.raises(AuthenticationFailed) as caught:
        accept(_sent(recorded, kind), recorded.response)
    assert caught.value.reason is Reason.OUT_OF_PLACE
    answered = recorded.granted.get("api_resp", recorded.granted)
    assert answered["type"] == recorded.access["type"] + 1, "stock answers whatever type was asked"


@each(lambda one: one.stock_answer == "refused")
def test_refusal_of_stock_is_server_refused_with_its_code(recorded: Exchange) -> None:
    with pytest.raises(ServerRefused) as caught:
        messages.parse_reply(recorded.response)
    assert caught.value.server_code == recorded.reply["code"]
    assert caught.value.detail == recorded.reply["msg"].strip()
    assert str(caught.value) == f"refused with code {recorded.reply['code']}: {recorded.reply['msg'].strip()}"


@each(lambda one: one.stock_answer in ("no route", "dropped"))
def test_what_is_no_reply_is_malformed(recorded: Exchange) -> None:
    with pytest.raises(MalformedMessage):
        messages.parse_reply(recorded.response)
    assert (recorded.path in messages.ROUTE_OF_PATH or recorded.is_ticket_request) == (recorded.stock_answer == "dropped")


@each(lambda one: one.stock_answer == "granted" and "auth_id_key" in one.granted)
def test_auth_id_key_in_a_reply_is_the_keys(recorded: Exchange) -> None:
    info: dict[str, Any] = recorded.granted["key_info"]
    if info["auth_key"] is None:
        assert recorded.path == "/admin/getcaps", "whose reply names an auth_id_key without a key in it"
        with pytest.raises(MalformedMessage):
            keys.parse_auth_id_key(recorded.granted["auth_id_key"])
        return
    principal, key = keys.parse_auth_id_key(recorded.granted["auth_id_key"])
    assert (principal, strictjson.b64encode(key.reveal())) == (info["id"], info["auth_key"])


@each(lambda one: one.stock_answer == "granted" and one.path == "/admin/createkey")
def test_key_that_stock_made_is_derived_from_root_time_and_id(recorded: Exchange) -> None:
    info = recorded.granted["key_info"]
    derived = keys.derive_stock_key(vectors.auth_root_key(), info["create_ts"], info["id"])
    assert strictjson.b64encode(derived) == info["auth_key"]


def test_ticket_plaintext_example_is_what_opens_and_what_ours_adds_to() -> None:
    example = vectors.recording()["ticket_plaintext_example"]
    key = bytes(range(32))
    opened = ticket.open_(key, ticket.seal(key, ours := _ticket_of(example), scripted(bytes(24))))
    assert opened == ours
    sealed = vectors.stock_open_json(key, ticket.seal(key, ours, scripted(bytes(24))))
    assert {name: sealed[name] for name in example} == example, "stock's members stand as stock writes them"
    assert sealed.keys() - example.keys() == {"client_id", "jti", "kvno"}, "and ours beside them (rule 2)"


def _ticket_of(members: dict[str, Any]) -> ticket.Ticket:
    session = members["session_key"]
    return ticket.Ticket(
        members["service_id"],
        SecretBytes(base64.b64decode(session["key"])),
        session["c_time"],
        members["exp"],
        members["ip"],
        base64.b64decode(members["caps"]).decode(),
        client_id="admin",
        jti="0" * 32,
        kvno=1,
    )


def test_no_exchange_is_skipped() -> None:
    raw = vectors.recording()
    assert len(raw["authtool"]) == AUTHTOOL_EXCHANGES
    assert len(raw["hand_made"]) == HAND_MADE_EXCHANGES
    assert len(ALL) == AUTHTOOL_EXCHANGES + HAND_MADE_EXCHANGES, "each run of authtool made one exchange"
    requests = [one for one in ALL if (one.name in REFUSED) ^ (one.name not in REFUSED and one.stock_answer != "no route")]
    assert [one.name for one in ALL if one not in requests] == ["unknown path"]
    assert len({one.name for one in ALL}) == len(ALL), "names are keys"
    assert REFUSED.keys() <= {one.name for one in ALL}
