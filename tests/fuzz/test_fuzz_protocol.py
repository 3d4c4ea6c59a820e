"""Every parser of the protocol core on spoiled input: whole, byte by byte, with a tail; only declared errors come out.

And what must hold of whatever is not refused: round trips, the algebra of capabilities, one canonical form.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.support import mutations, ticketing, vectors
from tests.support.ticketing import CLIENT_KEY, NOW, SERVICE_KEY, SESSION_KEY, TICKET

from cubeauth import caps, exchange, keys, messages, strictjson, ticket, verifier
from cubeauth.compat import envelope
from cubeauth.entropy import system
from cubeauth.errors import (
    AuthenticationFailed,
    CubeauthError,
    InputError,
    MalformedMessage,
    ServerRefused,
)
from cubeauth.messages import MsgType

KEY = CLIENT_KEY.reveal()
GET_KEY = messages.ROUTE_OF_WORD["getkey"]
SENT_TICKET = ticketing.ask_ticket()
SENT_ACCESS = exchange.ask_access(ticketing.a_grant(), MsgType.GET_KEY, {"key_info": {"id": "a"}}, now=NOW, entropy=system)
STOCK_FORMS = [one.form for one in vectors.exchanges() if one.form]
TICKET_PLAIN = json.loads(envelope.open_(SERVICE_KEY.reveal(), ticket.seal(SERVICE_KEY.reveal(), TICKET, system)))
REPLY_TICKET = ticketing.answer_ticket(SENT_TICKET.body)


def _reply_access(sent: exchange.Sent) -> bytes:
    request, proof, _ = ticketing.prove_access_request(sent.body, GET_KEY)
    return exchange.seal_access_reply(request, SESSION_KEY.reveal(), proof, {"key_info": {"id": "a"}}, system).encode()


def _text(data: bytes) -> str:
    """Any bytes as a text, with lone surrogates where they are no UTF-8."""
    return data.decode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class Parser:
    """A door of the core. declared: the only errors that may come out. seeds: input that it takes, at least the first."""

    name: str
    parse: Callable[[bytes], object]
    declared: tuple[type[CubeauthError], ...]
    seeds: Sequence[bytes]


def _sealed_replies(kind: str) -> list[bytes]:
    return [one.response for one in vectors.exchanges() if one.stock_answer == kind]


ENVELOPES = [case["message"].encode() for case in vectors.cases("envelope_valid")[:4]]
CAPS_TEXTS = [ticketing.CAPS.encode(), *(case["input"].encode() for case in vectors.cases("caps_parse"))]
PARSERS = [
    Parser("strictjson.loads", strictjson.loads, (MalformedMessage,), [b'{"a":[1,-2.5e3,"\\ud83d\\ude00",null]}', *CAPS_TEXTS]),
    Parser("strictjson.load_object", lambda d: strictjson.load_object(_text(d)), (MalformedMessage,), [b'{"a":{"b":[true]}}']),
    Parser("strictjson.b64decode", lambda d: strictjson.b64decode(_text(d)), (MalformedMessage,), ENVELOPES),
    Parser(
        "envelope.open_",
        lambda d: envelope.open_(KEY, d),
        (MalformedMessage, AuthenticationFailed),
        [envelope.seal(KEY, b"plaintext of some length", system), *ENVELOPES],
    ),
    Parser(
        "verifier.decode, open_",
        lambda d: verifier.open_(KEY, verifier.decode(_text(d))),
        (MalformedMessage, AuthenticationFailed),
        [verifier.seal(KEY, NOW, system).encode(), verifier.seal(KEY, NOW, system, body=b"x").encode(), *ENVELOPES],
    ),
    Parser(
        "verifier.open_numbers",
        lambda d: verifier.open_numbers(KEY, d, 2),
        (MalformedMessage, AuthenticationFailed),
        [verifier.seal_numbers(KEY, system, 1, 2), verifier.seal_numbers(KEY, system, 1)],
    ),
    Parser(
        "ticket.open_",
        lambda d: ticket.open_(SERVICE_KEY.reveal(), _text(d)),
        (MalformedMessage, AuthenticationFailed),
        [ticket.seal(SERVICE_KEY.reveal(), TICKET, system).encode(), *ENVELOPES],
    ),
    Parser("caps.parse", caps.parse, (InputError,), CAPS_TEXTS),
    Parser("caps.parse of text", lambda d: caps.parse(_text(d)), (InputError,), CAPS_TEXTS),
    Parser("keys.parse_key_file", keys.parse_key_file, (InputError,), [keys.key_file_of(ticketing.RECORD).to_json().encode()]),
    Parser(
        "keys.parse_auth_id_key",
        lambda d: keys.parse_auth_id_key(_text(d)),
        (MalformedMessage,),
        [case["auth_id_key"].encode() for case in vectors.cases("auth_id_key")],
    ),
    Parser(
        "exchange.parse_ticket_file",
        exchange.parse_ticket_file,
        (InputError,),
        [exchange.ticket_file(ticketing.a_grant()).encode()],
    ),
    Parser("messages.decode_form", messages.decode_form, (MalformedMessage,), [SENT_TICKET.body, *STOCK_FORMS]),
    Parser(
        "messages.parse_reply",
        messages.parse_reply,
        (MalformedMessage, ServerRefused),
        [REPLY_TICKET, *_sealed_replies("granted")[:3], *_sealed_replies("refused")],
    ),
    Parser("exchange.parse_ticket_request", exchange.parse_ticket_request, (MalformedMessage,), [SENT_TICKET.body, *STOCK_FORMS]),
    Parser(
        "exchange.parse_access_request",
        lambda d: exchange.parse_access_request(d, GET_KEY),
        (MalformedMessage,),
        [SENT_ACCESS.body, *STOCK_FORMS],
    ),
    Parser(
        "exchange.accept_ticket",
        lambda d: exchange.accept_ticket(SENT_TICKET, d),
        (ServerRefused, MalformedMessage, AuthenticationFailed),
        [REPLY_TICKET, *_sealed_replies("granted")[:3], *_sealed_replies("refused")],
    ),
    Parser(
        "exchange.accept_access",
        lambda d: exchange.accept_access(SENT_ACCESS, d),
        (ServerRefused, MalformedMessage, AuthenticationFailed),
        [_reply_access(SENT_ACCESS), *_sealed_replies("granted")[:3]],
    ),
]
every_parser = pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name)


def _outcome(parse: Callable[[Any], object], given: Any, declared: tuple[type[CubeauthError], ...]) -> CubeauthError | None:
    """The error that came out, if any; one that is not declared goes through and fails the test."""
    try:
        parse(given)
    except declared as error:
        return error
    return None


def _only_declared(parser: Parser, data: bytes) -> None:
    error = _outcome(parser.parse, data, parser.declared)
    assert error is None or type(error) in parser.declared, "a narrower one than what is documented"
    assert not (isinstance(error, InputError) and "\n" in str(error))


@every_parser
def test_whole_is_taken(parser: Parser) -> None:
    parser.parse(parser.seeds[0])
    for seed in parser.seeds:
        _only_declared(parser, seed)


@every_parser
def test_byte_by_byte_and_no_part_of_it_is_the_whole(parser: Parser) -> None:
    whole = parser.seeds[0]
    for length in range(len(whole)):
        _only_declared(parser, whole[:length])
        if parser.name not in ("strictjson.b64decode",):
            with pytest.raises(parser.declared):
                parser.parse(whole[:length])


@every_parser
@pytest.mark.parametrize("tail", [b"\x00", b"x", b"=", b"}", b"{}", b"&Token=x", b"\xff", b"\xed\xa0\x80", b"A" * 64])
def test_with_a_tail_it_is_refused(parser: Parser, tail: bytes) -> None:
    if parser.name == "strictjson.b64decode" and tail == b"A" * 64 and not parser.seeds[0].endswith(b"="):
        return
    with pytest.raises(parser.declared):
        parser.parse(parser.seeds[0] + tail)


@every_parser
@given(data=st.data())
def test_only_declared_errors_for_spoiled_bytes(parser: Parser, data: st.DataObject) -> None:
    _only_declared(parser, data.draw(mutations.spoiled_bytes(parser.seeds)))


@every_parser
@given(raw=st.binary(max_size=200))
def test_only_declared_errors_for_any_bytes(parser: Parser, raw: bytes) -> None:
    _only_declared(parser, raw)


def _plain_of(reply: bytes, key: bytes) -> dict[str, Any]:
    return strictjson.load_object(envelope.open_(key, messages.parse_reply(reply)))


def _sealed(plain: str, key: bytes) -> str:
    return envelope.seal(key, plain.encode(), system).decode()


FORM_TICKET, FORM_ACCESS = messages.decode_form(SENT_TICKET.body), messages.decode_form(SENT_ACCESS.body)
NOT_BOUND = FORM_TICKET | {"verifier": verifier.seal(KEY, NOW, system)}


@dataclass(frozen=True)
class Inner:
    """What stands past the seal, or in a file: a peer that holds the key puts there what it likes. use: takes the JSON text, and
    writes again what it took."""

    name: str
    use: Callable[[str], object]
    declared: tuple[type[CubeauthError], ...]
    seeds: Sequence[dict[str, Any]]


INNER = [
    Inner(
        "ticket",
        lambda text: ticket.open_(SERVICE_KEY.reveal(), _sealed(text, SERVICE_KEY.reveal())),
        (MalformedMessage,),
        [TICKET_PLAIN],
    ),
    Inner(
        "ticket reply",
        lambda text: exchange.accept_ticket(SENT_TICKET, messages.success(_sealed(text, KEY)).encode()),
        (MalformedMessage, AuthenticationFailed),
        [_plain_of(REPLY_TICKET, KEY)],
    ),
    Inner(
        "admin reply",
        lambda text: exchange.accept_access(SENT_ACCESS, messages.success(_sealed(text, SESSION_KEY.reveal())).encode()),
        (MalformedMessage, AuthenticationFailed),
        [_plain_of(_reply_access(SENT_ACCESS), SESSION_KEY.reveal())],
    ),
    Inner(
        "reply",
        lambda text: messages.parse_reply(text.encode()),
        (MalformedMessage, ServerRefused),
        [{"code": 0, "msg": "success", "data": "YQ=="}, {"code": 2, "msg": "no", "data": None}],
    ),
    Inner(
        "ticket request",
        lambda text: ticketing.answer_ticket(messages.encode_form(text)),
        (MalformedMessage, AuthenticationFailed),
        [FORM_TICKET, NOT_BOUND],
    ),
    Inner(
        "admin request",
        lambda text: ticketing.prove_access_request(messages.encode_form(text), GET_KEY),
        (MalformedMessage, AuthenticationFailed),
        [FORM_ACCESS],
    ),
    Inner(
        "key file",
        lambda text: keys.parse_key_file(text).to_json(),
        (InputError,),
        [json.loads(keys.key_file_of(ticketing.RECORD).to_json())],
    ),
    Inner(
        "ticket file",
        lambda text: exchange.ticket_file(exchange.parse_ticket_file(text)),
        (InputError,),
        [json.loads(exchange.ticket_file(ticketing.a_grant()))],
    ),
    Inner("capabilities", lambda text: caps.parse(text).capabilities.to_json(), (InputError,), [json.loads(ticketing.CAPS)]),
]
every_inner = pytest.mark.parametrize("inner", INNER, ids=lambda inner: inner.name)


@every_inner
@given(data=st.data())
def test_only_declared_errors_for_a_member_that_is_anything(inner: Inner, data: st.DataObject) -> None:
    error = _outcome(inner.use, json.dumps(data.draw(mutations.spoiled_members(inner.seeds))), inner.declared)
    assert error is None or type(error) in inner.declared


@every_inner
@pytest.mark.parametrize("levels", [500, 900, 950, 980, 990, 1000, 5000])
def test_only_declared_errors_for_members_nested_deep(inner: Inner, levels: int) -> None:
    for name in ("nested", *inner.seeds[0]):
        kept = {kept: value for kept, value in inner.seeds[0].items() if kept != name}
        text = json.dumps(kept)[:-1] + f',"{name}":' + "[" * levels + "]" * levels + "}"
        error = _outcome(inner.use, text, inner.declared)
        assert error is None or type(error) in inner.declared


@given(st.data())
def test_a_spoiled_envelope_never_opens(data: st.DataObject) -> None:
    """No bytes but those that were sealed: else a verifier could be changed into one that the replay cache does not know."""
    text = verifier.seal(KEY, NOW, system)
    other = data.draw(mutations.spoiled_bytes([text.encode()]))
    assume(other != text.encode())
    with pytest.raises((MalformedMessage, AuthenticationFailed)):
        envelope.open_(KEY, other)
