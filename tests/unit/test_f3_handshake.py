"""What the acceptor and the client refuse in a handshake: each rule its own reason in the log, one text on the wire."""

from __future__ import annotations

import dataclasses
import json
import struct
from typing import Any

import pytest
from tests.support import f3
from tests.support.f3 import CLIENT, NOW, SERVICE, SERVICE_KEY, SESSION_KEY

from cubeauth import handshake, strictjson, verifier
from cubeauth.admission import PER_REQUEST, Acceptor
from cubeauth.caps import Capabilities
from cubeauth.channel import ClientChannel, ServerChannel
from cubeauth.entropy import scripted
from cubeauth.errors import HandshakeRefused, InputError, LocalMisuse, MalformedMessage, Reason
from cubeauth.events import HandshakeCompleted
from cubeauth.exchange import TicketGrant
from cubeauth.frames import FrameReader, FrameType
from cubeauth.phases import Mode
from cubeauth.secret import SecretBytes

ANOTHER_KEY = SecretBytes(f3.seed("another service's key"))


def _refusal(grant: TicketGrant, acceptor: Acceptor | None = None) -> tuple[f3.Pair, Reason]:
    """The handshake under this grant must be refused at TICKET; the client hears the one text."""
    pair = f3.new_pair(grant_=grant, acceptor_=acceptor)
    pair.server.feed(pair.client.take())
    told = pair.server.take()
    assert told == f3.UNIFORM_ERROR
    pair.client.feed(told)
    assert isinstance(pair.client.error, HandshakeRefused)
    assert pair.client.reason is Reason.REFUSED_BY_PEER
    assert str(pair.client.error) == "the peer refused with code 2: authentication failed"
    assert pair.c.peer == pair.s.peer == ""
    assert pair.s.capabilities == Capabilities()
    return pair, pair.server.reason


GOOD = {
    "version": 1,
    "service_id": SERVICE,
    "session_key": {"c_time": 1, "key": strictjson.b64encode(SESSION_KEY.reveal())},
    "exp": int(NOW) + 60,
    "ip": "",
    "caps": strictjson.b64encode(f3.CAPS.encode()),
    "client_id": CLIENT,
}


def _without(name: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != name}


def _caps(text: str) -> dict[str, Any]:
    return {**GOOD, "caps": strictjson.b64encode(text.encode())}


REFUSED_TICKETS = {
    "expired": (f3.grant(f3.ticket_of(exp=int(NOW) - 1)), Reason.TICKET_EXPIRED),
    "expires this very second": (f3.grant(f3.ticket_of(exp=int(NOW))), Reason.TICKET_EXPIRED),
    "no such capability": (f3.grant(f3.ticket_of(caps='{"API":["data:write:access"]}')), Reason.CAPABILITY_MISSING),
    "no capability": (f3.grant(f3.ticket_of(caps="{}")), Reason.CAPABILITY_MISSING),
    "the capability as one of a volume": (
        f3.grant(f3.ticket_of(caps='{"OwnerVOL":["data:read:access"]}')),
        Reason.CAPABILITY_MISSING,
    ),
    "for another service": (f3.grant(f3.ticket_of(service_id="MetanodeService"), key=ANOTHER_KEY), Reason.OTHER_SERVICE),
    "for another service, sent as ours": (
        dataclasses.replace(f3.grant(f3.ticket_of(service_id="MetanodeService"), key=ANOTHER_KEY), service_id=SERVICE),
        Reason.BAD_ENVELOPE,
    ),
    "names another service, under our key": (
        dataclasses.replace(f3.grant(f3.ticket_of(service_id="MetanodeService")), service_id=SERVICE),
        Reason.OTHER_SERVICE,
    ),
    "of another client": (dataclasses.replace(f3.grant(), client_id="client2"), Reason.OTHER_CLIENT),
    "stock, of no client": (f3.raw_grant(_without("client_id")), Reason.OTHER_CLIENT),
    "of an empty client": (f3.raw_grant({**GOOD, "client_id": ""}), Reason.OTHER_CLIENT),
    "client_id is a number": (f3.raw_grant({**GOOD, "client_id": 7}), Reason.BAD_TICKET),
    "version 2": (f3.raw_grant({**GOOD, "version": 2}), Reason.BAD_TICKET),
    "short session key": (f3.raw_grant({**GOOD, "session_key": {"c_time": 1, "key": "AAAA"}}), Reason.BAD_TICKET),
    "exp beyond time": (f3.raw_grant({**GOOD, "exp": 1 << 53}), Reason.BAD_TICKET),
    "exp before time": (f3.raw_grant({**GOOD, "exp": -1}), Reason.BAD_TICKET),
    "exp of a hundred digits": (f3.raw_grant({**GOOD, "exp": 10**100}), Reason.MALFORMED),
    "no exp": (f3.raw_grant(_without("exp")), Reason.MALFORMED),
    "ill-formed capability": (f3.raw_grant(_caps('{"API":["*:*:*","x"]}')), Reason.BAD_TICKET),
    "capabilities no object": (f3.raw_grant(_caps("[]")), Reason.BAD_TICKET),
    "capabilities given twice": (f3.raw_grant(_caps('{"API":[],"api":[]}')), Reason.BAD_TICKET),
    "not base64": (dataclasses.replace(f3.grant(), ticket="?"), Reason.BAD_ENVELOPE),
    "empty": (dataclasses.replace(f3.grant(), ticket=""), Reason.BAD_ENVELOPE),
}


@pytest.mark.parametrize("name", REFUSED_TICKETS)
def test_a_ticket_is_refused_for_its_own_reason_and_the_wire_says_one_thing(name: str) -> None:
    grant, expected = REFUSED_TICKETS[name]
    assert _refusal(grant)[1] is expected


def test_a_good_ticket_of_the_same_making_is_taken() -> None:
    pair = f3.open_pair(grant_=f3.raw_grant(GOOD))
    assert pair.server.of(HandshakeCompleted) == [
        HandshakeCompleted(CLIENT, Capabilities(("data:read:access",)), int(NOW) + 60, "")
    ]


def test_unknown_members_of_a_tickets_capabilities_are_the_authnodes_affair() -> None:
    pair = f3.open_pair(grant_=f3.raw_grant(_caps('{"api":["data:*:access"],"Later":[1]}')))
    assert pair.s.capabilities == Capabilities(("data:*:access",))


def test_per_request_asks_for_no_capability() -> None:
    pair = f3.open_pair(grant_=f3.grant(f3.ticket_of(caps="{}")), acceptor_=f3.acceptor(requirement=PER_REQUEST))
    assert pair.s.capabilities == Capabilities()


def test_completion_says_who_what_for_and_until_when() -> None:
    pair = f3.open_pair()
    (client,), (server,) = pair.client.of(HandshakeCompleted), pair.server.of(HandshakeCompleted)
    assert client == HandshakeCompleted(SERVICE, None, int(NOW) + 3600)
    assert server == HandshakeCompleted(CLIENT, Capabilities(("data:read:access",)), int(NOW) + 3600, "0123456789abcdef" * 2)


def test_the_audit_line_of_a_refusal_can_tell_who_the_client_said_it_is() -> None:
    pair, _ = _refusal(f3.grant(f3.ticket_of(exp=1)))
    assert pair.s.unverified_peer == CLIENT


def test_any_of_the_services_keys_opens_a_ticket() -> None:
    both = f3.acceptor(service_keys=lambda: (ANOTHER_KEY, SERVICE_KEY))
    f3.open_pair(acceptor_=both)
    _, reason = _refusal(f3.grant(), f3.acceptor(service_keys=lambda: (ANOTHER_KEY,)))
    assert reason is Reason.BAD_ENVELOPE


def test_an_alias_in_the_grant_is_the_service_that_it_means() -> None:
    made = f3.grant(f3.ticket_of(service_id="MetanodeService"))
    alias = dataclasses.replace(made, service_id="MetaService")
    pair = f3.new_pair(grant_=alias, acceptor_=f3.acceptor(service_id="MetanodeService"))
    pair.flush()
    assert pair.c.peer == "MetanodeService"


@pytest.mark.parametrize("ours", Mode)
@pytest.mark.parametrize("theirs", Mode)
def test_both_sides_are_configured_for_one_mode(ours: Mode, theirs: Mode) -> None:
    pair = f3.new_pair(ours, acceptor_=f3.acceptor(mode=theirs))
    pair.flush()
    if ours is theirs:
        assert pair.server.of(HandshakeCompleted)
    else:
        assert pair.server.reason is Reason.MODE_DIFFERS


GOOD_TICKET = {"type": 0x200000, "client_id": CLIENT, "service_id": SERVICE, "ticket": f3.grant().ticket}


def _ticket_payload(**changes: Any) -> bytes:
    members = {key: value for key, value in {**GOOD_TICKET, **changes}.items() if value is not ...}
    return json.dumps(members).encode()


MALFORMED_TICKETS = {
    "not JSON": b"{",
    "a list": b"[]",
    "not UTF-8": b'{"type":\xff}',
    "type of F1": _ticket_payload(type=0x110000),
    "type as text": _ticket_payload(type="2097152"),
    "type true": _ticket_payload(type=True),
    "no type": _ticket_payload(type=...),
    "no ticket": _ticket_payload(ticket=...),
    "ticket null": _ticket_payload(ticket=None),
    "one member more": _ticket_payload(more=1),
    "client_id empty": _ticket_payload(client_id=""),
    "client_id no id": _ticket_payload(client_id="client 1\n"),
    "client_id a number": _ticket_payload(client_id=1),
    "service_id no id": _ticket_payload(service_id="x" * 22),
    "a member twice": _ticket_payload()[:-1] + b',"client_id":"client2"}',
    "a tail": _ticket_payload() + b"{}",
    "nothing": b"",
}


@pytest.mark.parametrize("name", MALFORMED_TICKETS)
def test_ticket_frames_json_is_read_strictly(name: str) -> None:
    server = f3.new_pair().server
    server.feed(f3.frame_bytes(1, MALFORMED_TICKETS[name], 1))
    assert server.reason is Reason.MALFORMED
    assert server.take() == f3.UNIFORM_ERROR
    with pytest.raises(MalformedMessage):
        handshake.parse_ticket(MALFORMED_TICKETS[name])


def test_the_order_of_members_and_spaces_mean_nothing() -> None:
    text = json.dumps(dict(reversed(GOOD_TICKET.items())), indent=2).encode()
    assert handshake.parse_ticket(text) == (CLIENT, SERVICE, GOOD_TICKET["ticket"])


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00", b"AN2\x01\r\n\x1a\n", b"x"])
def test_what_is_not_f3_is_no_ticket(data: bytes) -> None:
    server = f3.new_pair().server
    server.feed(data)
    assert server.reason is Reason.NO_TICKET
    assert server.take() == f3.UNIFORM_ERROR


def test_a_connection_that_ends_without_a_byte_is_no_ticket_and_one_that_ends_in_the_midst_is_cut() -> None:
    silent, cut = f3.new_pair().server, f3.new_pair().server
    silent.eof()
    cut.feed(b"ANF3\x01")
    cut.eof()
    assert (silent.reason, cut.reason) == (Reason.NO_TICKET, Reason.TRUNCATED)
    assert silent.take() == cut.take() == b""
    assert isinstance(cut.error, HandshakeRefused)


def test_the_server_answers_nothing_before_the_frame_is_whole() -> None:
    pair = f3.new_pair()
    frame = pair.client.take()
    for piece in f3.in_pieces(frame[:-1], [1]):
        assert pair.server.feed(piece) == []
        assert pair.server.take() == b""
    pair.server.feed(frame[-1:])
    assert pair.server.take()[5] == FrameType.CHALLENGE


def test_the_client_never_draws_the_number_that_would_make_a_challenge_a_confirm() -> None:
    numbers = [struct.pack("<Q", n) for n in (99, 99, 7)]
    client = handshake.ClientHandshake(f3.grant(), Mode.SEALED, scripted(*numbers, bytes(24)))
    envelope = verifier.seal_numbers(SESSION_KEY.reveal(), f3.chance("challenge"), 100)
    response = client.challenge(_frame(f3.frame_bytes(2, envelope, 1)))
    assert verifier.open_numbers(SESSION_KEY.reveal(), response[12:], 2) == (7, 101)


def _frame(data: bytes) -> Any:
    reader = FrameReader()
    reader.feed(data)
    return reader.next()


NUMBERS = (0, 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 2, (1 << 64) - 1)


GOOD_NUMBERS = [(s_n, s_c) for s_n in NUMBERS for s_c in NUMBERS if (s_c + 1) % (1 << 64) != s_n]


@pytest.mark.parametrize(("s_n", "s_c"), GOOD_NUMBERS)
def test_numbers_count_modulo_2_to_the_64(s_n: int, s_c: int) -> None:
    client = ClientChannel(f3.grant(), Mode.SEALED, scripted(struct.pack("<Q", s_c), bytes(24)), NOW)
    server = ServerChannel(f3.acceptor(), scripted(struct.pack("<Q", s_n), bytes(24), bytes(24)), NOW)
    client.start()
    pair = f3.Pair(f3.End(client), f3.End(server))
    pair.flush()
    assert pair.server.of(HandshakeCompleted)


@pytest.mark.parametrize("count", [0, 2, 3])
def test_a_confirm_of_another_length_is_refused(count: int) -> None:
    assert _client_given_confirm(count * (1,)) is Reason.BAD_CHALLENGE


def test_a_confirm_of_another_number_is_refused() -> None:
    assert _client_given_confirm((1,)) is Reason.BAD_CHALLENGE


def _client_given_confirm(numbers: tuple[int, ...]) -> Reason:
    pair = f3.new_pair()
    pair.server.feed(pair.client.take())
    pair.client.feed(pair.server.take())
    envelope = verifier.seal_numbers(SESSION_KEY.reveal(), f3.chance("confirm"), *numbers) if numbers else b""
    pair.client.feed(f3.frame_bytes(4, envelope))
    assert pair.client.take()[-len(f3.UNIFORM_ERROR) :] == f3.UNIFORM_ERROR, "not sealed: CONFIRM was not accepted"
    return pair.client.reason if numbers else Reason.BAD_CHALLENGE


def test_a_client_that_refused_confirm_is_understood_by_the_server() -> None:
    pair = f3.new_pair()
    pair.server.feed(pair.client.take())
    pair.client.feed(pair.server.take())
    pair.server.feed(pair.client.take())
    good = pair.server.take()
    pair.client.feed(f3.frame_bytes(4, b"bad"))
    pair.server.feed(pair.client.take())
    assert good
    assert pair.server.reason is Reason.REFUSED_BY_PEER


def test_a_ticket_that_no_handshake_frame_holds_is_told_to_whoever_has_it() -> None:
    huge = dataclasses.replace(f3.grant(), ticket="A" * 70_000)
    with pytest.raises(InputError, match=r"ticket: .* bytes, a handshake frame holds 65536; grant client1 fewer capabilities"):
        ClientChannel(huge, Mode.SEALED, f3.chance(""), NOW)


@pytest.mark.parametrize(
    "changes", [{"service_id": "MetaService"}, {"service_id": ""}, {"requirement": "data"}, {"requirement": ""}], ids=str
)
def test_a_listener_is_configured_with_a_service_and_a_capability(changes: dict[str, str]) -> None:
    with pytest.raises(LocalMisuse):
        f3.acceptor(**changes)


def test_no_secret_is_in_any_repr() -> None:
    pair = f3.open_pair()
    shown = repr([f3.grant(), f3.acceptor(), pair.s._admission, pair.client.events, pair.server.events])
    secrets = [SERVICE_KEY, SESSION_KEY, SecretBytes(f3.grant().ticket.encode())]
    for secret in secrets:
        for form in (secret.reveal().hex(), repr(secret.reveal()), strictjson.b64encode(secret.reveal())):
            assert form not in shown
    assert f3.grant().ticket not in shown
