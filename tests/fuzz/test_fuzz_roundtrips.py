"""What must hold of whatever is not refused: round trips, one canonical form, the algebra of capabilities."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import mutations, ticketing, vectors
from tests.support.ticketing import CLIENT_KEY, SERVICE_KEY, SESSION_KEY, TICKET

from cubeauth import caps, exchange, messages, strictjson, ticket, verifier
from cubeauth.caps import Capabilities, Kind
from cubeauth.compat import envelope
from cubeauth.entropy import system
from cubeauth.errors import AuthenticationFailed, MalformedMessage
from cubeauth.messages import MsgType
from cubeauth.secret import SecretBytes

KEY = CLIENT_KEY.reveal()
GET_KEY = messages.ROUTE_OF_WORD["getkey"]
JSON_SEEDS = [
    b'{"a":[1,-2.5e3,"\\ud83d\\ude00",null,{"b":{}}],"c":"d"}',
    *(case["input"].encode() for case in vectors.cases("caps_parse")),
]


@given(st.sampled_from((16, 24, 32)).flatmap(lambda n: st.binary(min_size=n, max_size=n)), st.binary(min_size=1, max_size=5000))
def test_envelope_both_ways(key: bytes, plaintext: bytes) -> None:
    text = envelope.seal(key, plaintext, system)
    assert envelope.open_(key, text) == vectors.stock_open(key, text.decode()).plaintext == plaintext


@given(st.data())
def test_a_key_set_up_does_what_the_bare_key_does_in_any_order_of_use(data: st.DataObject) -> None:
    """Its ciphers run on from message to message: nothing that was sealed, opened or refused before may show."""
    set_up = envelope.EnvelopeKey(KEY)
    either: list[envelope.Key] = [KEY, set_up]
    for _ in range(data.draw(st.integers(2, 6))):
        plaintext = data.draw(st.binary(min_size=1, max_size=100))
        text = envelope.seal(data.draw(st.sampled_from(either)), plaintext, system)
        assert envelope.open_(set_up, text) == envelope.open_(KEY, text) == plaintext
        spoiled = data.draw(mutations.spoiled_bytes([text]))
        if spoiled != text:
            with pytest.raises((MalformedMessage, AuthenticationFailed)):
                envelope.open_(set_up, spoiled)


@given(
    st.lists(
        st.sampled_from(("%3D", "%3d", "%2F", "%2f", "%2B", "%25", "%", "%%", "3D", "2F", "YQ", "e30", "=", "+", "/")), max_size=8
    )
)
def test_form_is_unescaped_once_and_as_any_form_parser_does(parts: list[str]) -> None:
    value = "".join(parts).encode()

    def read(parse: Callable[[], Any]) -> Any:
        try:
            return parse()
        except MalformedMessage as error:
            return error.detail

    wanted = read(lambda: strictjson.load_object(strictjson.b64decode(unquote_to_bytes(value))))
    assert read(lambda: messages.decode_form(b"Token=" + value)) == wanted


INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
IDS = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,20}", fullmatch=True)
KEYS = st.binary(min_size=32, max_size=32).map(SecretBytes)


@given(time=INT64, body=st.none() | st.binary(max_size=50), now=st.integers(0, 1 << 40) | st.floats(0, 1 << 40))
def test_verifier_both_ways_and_taken_within_the_skew_only(time: int, body: bytes | None, now: float) -> None:
    opened = verifier.open_(KEY, verifier.decode(verifier.seal(KEY, time, system, body=body)))
    assert opened.time == time
    if body is not None:
        verifier.check_binding(opened, body)
    if abs(int(now) - time) < verifier.SKEW:
        verifier.check(opened, now=now)
    else:
        with pytest.raises(AuthenticationFailed):
            verifier.check(opened, now=now)


@given(
    service=IDS,
    client=IDS,
    key=KEYS,
    times=st.tuples(INT64, INT64),
    ip=st.ip_addresses().map(str),
    text=st.text(st.characters(exclude_categories=["Cs"]), max_size=50),
    jti=st.from_regex(r"[0-9a-f]{32}", fullmatch=True),
    kvno=st.integers(0, (1 << 63) - 1),
)
def test_ticket_both_ways(
    service: str, client: str, key: SecretBytes, times: tuple[int, int], ip: str, text: str, jti: str, kvno: int
) -> None:
    issued = ticket.Ticket(service, key, *times, ip, text, client, jti, kvno)
    assert ticket.open_(KEY, ticket.seal(KEY, issued, system)) == issued


@given(service=IDS, session=KEYS, times=st.tuples(INT64, INT64), now=st.floats(0, 1 << 40))
def test_ticket_exchange_client_to_server_and_back(
    service: str, session: SecretBytes, times: tuple[int, int], now: float
) -> None:
    c_time, exp = times
    issued = dataclasses.replace(TICKET, service_id=service, session_key=session, c_time=c_time, exp=exp)
    sent = ticketing.ask_ticket(service, now=now)
    reply = ticketing.answer_ticket(sent.body, issued, now=now)
    grant = exchange.accept_ticket(sent, reply)
    assert (grant.service_id, grant.session_key, grant.c_time, grant.exp) == (service, session, c_time, exp)
    assert ticket.open_(SERVICE_KEY.reveal(), grant.ticket) == issued


@given(
    payload=st.dictionaries(st.text(max_size=5), mutations.json_values, max_size=4),
    extra=mutations.json_values,
    now=st.floats(0, 1 << 40),
)
def test_admin_exchange_client_to_server_and_back(payload: dict[str, Any], extra: Any, now: float) -> None:
    sent = exchange.ask_access(
        ticketing.a_grant(exp=(1 << 63) - 1), MsgType.GET_KEY, {"key_info": payload, "extra": extra}, now=now, entropy=system
    )
    request, proof, _ = ticketing.prove_access_request(sent.body, GET_KEY, now=now)
    as_sent = json.loads(json.dumps(payload))
    assert request.payload == as_sent
    reply = exchange.seal_access_reply(request, SESSION_KEY.reveal(), proof, {"echo": request.payload}, system)
    assert exchange.accept_access(sent, reply.encode())["echo"] == as_sent


@given(mutations.json_values)
def test_canonical_form_is_one(value: Any) -> None:
    once = strictjson.canonical(value)
    assert strictjson.canonical(strictjson.loads(once)) == once
    assert once.isascii()
    assert strictjson.canonical(strictjson.loads(strictjson.dumps(value))) == once
    if isinstance(value, dict):
        assert strictjson.canonical(dict(reversed(value.items()))) == once


@given(st.data())
def test_what_strict_json_takes_python_reads_the_same(data: st.DataObject) -> None:
    raw = data.draw(mutations.spoiled_bytes(JSON_SEEDS))
    try:
        value = strictjson.loads(raw)
    except MalformedMessage:
        return
    assert value == json.loads(raw)


@given(st.text(max_size=40) | st.binary(max_size=40))
def test_base64_that_is_taken_is_the_one_text_of_its_bytes(text: str | bytes) -> None:
    try:
        value = strictjson.b64decode(text)
    except MalformedMessage:
        return
    assert strictjson.b64encode(value) == (text if isinstance(text, str) else text.decode())


# Few letters, so that lists meet.
_PART = st.sampled_from(("*", "a", "b", "master"))
_VOLUME = st.sampled_from(("vol", "vol-1", "v_2"))
_API = st.builds("{}:{}:{}".format, _PART, _PART, _PART)
_VOL = st.builds("{}:{}:{}".format, _PART, _VOLUME, _PART)


def _lists(items: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(items, max_size=6, unique=True).map(tuple)


CAPABILITIES = st.builds(Capabilities, _lists(_API), _lists(_VOL), _lists(_VOL))
ASKED = st.tuples(st.sampled_from(list(Kind)), _API | _VOL | st.text(":*ab", max_size=8))


@given(CAPABILITIES)
def test_capabilities_are_read_as_they_are_written(held: Capabilities) -> None:
    assert caps.parse(held.to_json()) == caps.Parsed(held, ())


@given(CAPABILITIES, CAPABILITIES, ASKED)
def test_union_allows_what_either_allows_and_minus_nothing_more(
    x: Capabilities, y: Capabilities, asked: tuple[Kind, str]
) -> None:
    kind, wanted = asked
    assert x.union(y).allows(wanted, kind) == (x.allows(wanted, kind) or y.allows(wanted, kind))
    assert not (x.minus(y).allows(wanted, kind) and not x.allows(wanted, kind))


@given(CAPABILITIES, CAPABILITIES, CAPABILITIES)
def test_algebra_of_capabilities(x: Capabilities, y: Capabilities, z: Capabilities) -> None:
    assert x.union(x) == x.union(Capabilities()) == x.minus(Capabilities()) == x
    assert x.union(y).union(z) == x.union(y.union(z))
    assert x.minus(x) == Capabilities()
    assert x.minus(y).minus(y) == x.minus(y)
    assert x.minus(y).minus(z) == x.minus(y.union(z))
    for kind in Kind:
        assert set(x.union(y).of(kind)) == set(x.of(kind)) | set(y.of(kind))
        assert set(x.minus(y).of(kind)) == set(x.of(kind)) - set(y.of(kind))


@given(IDS, IDS, st.binary(min_size=48, max_size=80), st.binary(min_size=48, max_size=80))
def test_replay_keys_are_the_same_for_the_same_proof_only(a: str, b: str, one: bytes, two: bytes) -> None:
    assert (verifier.replay_key(a, one) == verifier.replay_key(b, two)) == ((a, one) == (b, two))
