"""A channel after its handshake: data, half-close, truncation, renewal, end, grace, limits; before it: the deadline."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from tests.support import f3
from tests.support.f3 import NOW, SERVICE_KEY, SESSION_KEY, End, Pair

from cubeauth import caps, refusal, renewal
from cubeauth.channel import ClientChannel
from cubeauth.connection import DATA_BYTES, HANDSHAKE_SECONDS
from cubeauth.errors import (
    ChannelExpired,
    HandshakeRefused,
    LocalMisuse,
    Reason,
    RecordRefused,
    RefusedByPeer,
    RenewalRefused,
    StreamTruncated,
)
from cubeauth.events import ChannelFailed, DataReceived, GraceStarted, HandshakeCompleted, PeerClosed, Renewed
from cubeauth.frames import FrameType
from cubeauth.phases import Mode, Phase
from cubeauth.secret import SecretBytes

EXP = int(NOW) + 3600
BOTH = ("client", "server")


def _ends(pair: Pair, side: str) -> tuple[End, End]:
    """The named end and the other."""
    return (pair.client, pair.server) if side == "client" else (pair.server, pair.client)


# --- data


@pytest.mark.parametrize("side", BOTH)
@pytest.mark.parametrize("size", [1, DATA_BYTES - 1, DATA_BYTES, DATA_BYTES + 1, 3 * DATA_BYTES])
@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview], ids=lambda wrap: wrap.__name__)
def test_data_arrives_in_records_of_bounded_size(side: str, size: int, wrap: Callable[[bytes], Any]) -> None:
    pair = f3.open_pair()
    source, target = _ends(pair, side)
    data = f3.chance("data")(size)
    source.channel.send(wrap(data))
    wire = source.take()
    assert [len(frame) for frame in f3.cut(wire)] == [28 + len(piece) for piece in f3.in_pieces(data, [DATA_BYTES])]
    target.feed(wire)
    assert target.received == data


def test_what_was_delivered_stays_when_more_arrives() -> None:
    pair = f3.open_pair()
    for letter in (b"a", b"b"):
        pair.c.send(letter * 1000)
        pair.flush()
    assert [event.data for event in pair.server.of(DataReceived)] == [b"a" * 1000, b"b" * 1000]


def test_what_was_sent_may_change_afterwards() -> None:
    pair = f3.open_pair()
    data = bytearray(b"abc")
    pair.c.send(data)
    data[:] = b"xyz"
    pair.flush()
    assert pair.server.received == b"abc"


def test_nothing_sends_nothing() -> None:
    for mode in Mode:
        pair = f3.open_pair(mode)
        pair.c.send(b"")
        assert pair.c.data_to_send() == []


@pytest.mark.parametrize("side", BOTH)
def test_an_empty_record_is_taken_and_not_reported(side: str) -> None:
    pair = f3.open_pair()
    source, target = _ends(pair, side)
    assert target.feed(f3.sealed(source, FrameType.DATA)) == []
    source.channel.send(b"after")
    pair.flush()
    assert target.received == b"after"


def test_data_in_the_first_record_follows_completion() -> None:
    pair = f3.new_pair()
    pair.server.feed(pair.client.take())
    pair.client.feed(pair.server.take())
    pair.server.feed(pair.client.take())
    pair.client.feed(pair.server.take())
    pair.client.take()
    sealer = pair.c._sealer
    assert sealer is not None
    sealer._counter.used = 0
    pair.server.feed(f3.sealed(pair.client, FrameType.DATA, b"early"))
    assert [type(event) for event in pair.server.events] == [HandshakeCompleted, DataReceived]
    assert pair.server.received == b"early"


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("call", [lambda c: c.send(b"x"), lambda c: c.close()], ids=["send", "close"])
def test_nothing_is_sent_before_the_handshake_is_complete_nor_after_a_failure(mode: Mode, call: Callable[[Any], None]) -> None:
    pair = f3.new_pair(mode)
    for end in pair:
        with pytest.raises(LocalMisuse):
            call(end.channel)
    pair.flush()
    for end in pair:
        end.channel.tick(NOW + 7200)
        assert not end.channel.can_send
        with pytest.raises(LocalMisuse):
            call(end.channel)


def test_start_is_called_once() -> None:
    with pytest.raises(LocalMisuse):
        f3.new_pair().c.start()


# --- the handshake's deadline


@pytest.mark.parametrize("steps", range(4))
def test_the_whole_handshake_has_ten_seconds(steps: int) -> None:
    pair = f3.new_pair()
    ends = [pair.client, pair.server]
    for turn in range(steps):
        ends[(turn + 1) % 2].feed(ends[turn % 2].take(), NOW + 9)
    for end in pair:
        if end.of(HandshakeCompleted):
            continue
        end.take()
        assert end.channel.next_deadline() == NOW + HANDSHAKE_SECONDS
        assert end.channel.tick(NOW + 9.999) == []
        (failed,) = end.channel.tick(NOW + 10)
        assert isinstance(failed, ChannelFailed)
        assert isinstance(failed.error, HandshakeRefused)
        assert failed.error.reason is Reason.DEADLINE
        assert end.channel.next_deadline() is None


def test_bytes_that_come_after_the_deadline_come_too_late() -> None:
    pair = f3.new_pair()
    pair.server.feed(pair.client.take(), NOW + 10)
    assert pair.server.reason is Reason.DEADLINE
    assert HANDSHAKE_SECONDS == 10


def test_a_client_that_never_started_says_nothing_when_its_time_is_over() -> None:
    client = ClientChannel(f3.grant(), Mode.SEALED, f3.chance(""), NOW)
    assert len(client.tick(NOW + 10)) == 1
    assert client.data_to_send() == []


# --- half-close and truncation


@pytest.mark.parametrize("side", BOTH)
def test_one_direction_closes_and_the_other_goes_on(side: str) -> None:
    pair = f3.open_pair()
    closer, other = _ends(pair, side)
    closer.channel.send(b"last words")
    closer.channel.close()
    pair.flush()
    assert other.received == b"last words"
    assert isinstance(other.events[-1], PeerClosed)
    other.eof()
    other.channel.send(b"an answer")
    pair.flush()
    assert closer.received == b"an answer"
    assert [closer.channel.ended, other.channel.ended] == [False, False]
    other.channel.close()
    pair.flush()
    assert [closer.channel.ended, other.channel.ended] == [True, True]
    closer.eof()
    assert not [*closer.of(ChannelFailed), *other.of(ChannelFailed)]
    assert closer.channel.next_deadline() is None


@pytest.mark.parametrize("mode", Mode)
def test_after_close_nothing_is_sent_and_close_again_does_nothing(mode: Mode) -> None:
    pair = f3.open_pair(mode)
    pair.c.close()
    wire = pair.client.take()
    pair.c.close()
    assert pair.client.take() == b""
    assert bool(wire) is (mode is Mode.SEALED)
    with pytest.raises(LocalMisuse):
        pair.c.send(b"x")


@pytest.mark.parametrize("side", BOTH)
@pytest.mark.parametrize("kind", FrameType)
def test_close_is_the_last_frame_of_a_direction(side: str, kind: FrameType) -> None:
    pair = f3.open_pair()
    closer, other = _ends(pair, side)
    closer.channel.close()
    pair.flush()
    other.feed(f3.sealed(closer, kind)[:1])
    assert other.reason is Reason.OUT_OF_PLACE
    assert isinstance(other.error, RecordRefused)


@pytest.mark.parametrize("side", BOTH)
def test_a_close_with_data_is_refused(side: str) -> None:
    pair = f3.open_pair()
    source, target = _ends(pair, side)
    target.feed(f3.sealed(source, FrameType.CLOSE, b"x"))
    assert target.reason is Reason.OUT_OF_PLACE


@pytest.mark.parametrize("side", BOTH)
@pytest.mark.parametrize("kept", [0, 1, 12, 30])
def test_an_end_without_close_is_truncation(side: str, kept: int) -> None:
    pair = f3.open_pair()
    source, target = _ends(pair, side)
    source.channel.send(b"whole")
    wire = source.take()
    source.channel.send(b"never whole")
    target.feed(wire + source.take()[:kept])
    target.eof()
    assert target.received == b"whole"
    assert isinstance(target.error, StreamTruncated)
    assert target.reason is Reason.TRUNCATED
    assert target.take() == b"", "whoever is gone is told nothing"


@pytest.mark.parametrize("given", range(3))
def test_an_end_within_the_handshake_is_a_refused_handshake(given: int) -> None:
    pair = f3.new_pair()
    ends = [pair.client, pair.server]
    for turn in range(given):
        ends[(turn + 1) % 2].feed(ends[turn % 2].take())
    pair.client.eof()
    assert isinstance(pair.client.error, HandshakeRefused)
    assert pair.client.reason is Reason.TRUNCATED


# --- clear mode


@pytest.mark.parametrize("side", BOTH)
def test_clear_bytes_go_through_as_they_are(side: str) -> None:
    pair = f3.open_pair(Mode.CLEAR)
    source, target = _ends(pair, side)
    buffer = bytearray(b"ANF3 or not")
    source.channel.send(buffer)
    (out,) = source.channel.data_to_send()
    assert out is buffer
    (received,) = target.feed(bytes(out))
    assert received == DataReceived(b"ANF3 or not")


@pytest.mark.parametrize("side", BOTH)
def test_clear_bytes_right_behind_the_first_record_are_not_lost(side: str) -> None:
    pair = f3.new_pair(Mode.CLEAR)
    pair.server.feed(pair.client.take())
    pair.client.feed(pair.server.take())
    pair.server.feed(pair.client.take())
    held = pair.server.take()
    if side == "client":
        pair.client.feed(held)
        pair.server.feed(pair.client.take() + b"raw")
        assert pair.server.received == b"raw"
    else:
        pair.client.feed(held + b"raw")
        assert pair.client.received == b"raw"


def test_a_first_record_with_data_is_refused_in_clear_mode() -> None:
    pair = f3.new_pair(Mode.CLEAR)
    pair.server.feed(pair.client.take())
    pair.client.feed(pair.server.take())
    pair.server.feed(pair.client.take())
    assert pair.s._sealer is not None
    confirm = f3.cut(pair.server.take())[0]
    pair.s._sealer._counter.used = 0
    pair.client.feed(confirm + f3.sealed(pair.server, FrameType.DATA, b"x"))
    assert pair.client.reason is Reason.OUT_OF_PLACE
    assert not pair.client.of(HandshakeCompleted)


def test_clear_mode_cannot_tell_truncation() -> None:
    pair = f3.open_pair(Mode.CLEAR)
    pair.server.eof()
    assert isinstance(pair.server.events[-1], PeerClosed)
    pair.s.send(b"an answer")
    pair.s.close()
    pair.flush()
    assert pair.client.received == b"an answer"
    assert pair.s.ended


@pytest.mark.parametrize("eof_first", [False, True])
def test_a_clear_channel_ends_at_exp_without_a_frame_and_without_grace(eof_first: bool) -> None:
    away = f3.acceptor(mode=Mode.CLEAR, unanswered_try=lambda: float(EXP))
    pair = f3.open_pair(Mode.CLEAR, acceptor_=away, unanswered_try=lambda: float(EXP))
    for end in pair:
        if eof_first:
            end.eof()
        assert end.channel.next_deadline() == EXP
        assert end.channel.tick(EXP - 0.001) == []
        (failed,) = end.channel.tick(EXP)
        assert isinstance(failed, ChannelFailed)
        assert isinstance(failed.error, ChannelExpired)
        assert end.take() == b""


def test_a_clear_channel_is_not_renewed() -> None:
    pair = f3.open_pair(Mode.CLEAR)
    assert not pair.c.renewable
    with pytest.raises(LocalMisuse):
        pair.c.renew(_later())


# --- renewal


def _later(seconds: int = 3600, *, key: SecretBytes = SERVICE_KEY, **changes: Any) -> Any:
    fresh = SecretBytes(f3.seed("fresh session key"))
    return f3.grant(f3.ticket_of(exp=EXP + seconds, session_key=fresh, jti="f" * 32, **changes), key=key, label="fresh")


def test_a_renewal_moves_the_end_and_the_capabilities_and_keeps_keys_and_counters() -> None:
    pair = f3.open_pair()
    pair.c.send(b"before")
    pair.c.renew(_later(caps='{"API":["data:read:*"]}'))
    pair.c.send(b"after")
    pair.flush()
    wider = caps.parse('{"API":["data:read:*"]}').capabilities
    assert pair.server.events[1:] == [DataReceived(b"before"), Renewed(EXP + 3600, wider, "f" * 32), DataReceived(b"after")]
    assert pair.s.capabilities == wider
    for end in pair:
        assert end.channel.exp == end.channel.next_deadline() == EXP + 3600
        assert end.channel.tick(EXP + 3599.9) == []
        assert len(end.channel.tick(EXP + 3600)) == 1


def test_a_renewal_can_be_renewed_and_works_while_the_server_has_closed() -> None:
    pair = f3.open_pair()
    pair.s.close()
    pair.flush()
    assert pair.c.renewable
    pair.c.renew(_later(10))
    pair.c.renew(_later(20))
    pair.flush()
    assert [event.exp for event in pair.server.of(Renewed)] == [EXP + 10, EXP + 20]


def test_a_rotated_service_key_opens_renewals_of_channels_made_before() -> None:
    keys = [SERVICE_KEY]
    new = SecretBytes(f3.seed("rotated"))
    pair = f3.open_pair(acceptor_=f3.acceptor(service_keys=lambda: keys))
    keys[:] = [new, SERVICE_KEY]
    pair.c.renew(_later(key=new))
    pair.flush()
    assert pair.server.of(Renewed)


REFUSED_RENEWALS: dict[str, tuple[Any, Reason, int]] = {
    "expired": (_later(-3600 - 10), Reason.TICKET_EXPIRED, 43),
    "ends as the one that it renews": (_later(0), Reason.BAD_RENEWAL, 2),
    "ends earlier": (_later(-1), Reason.BAD_RENEWAL, 2),
    "of another client": (_later(client_id="client2"), Reason.OTHER_CLIENT, 2),
    "for another service": (_later(service_id="MetanodeService"), Reason.OTHER_SERVICE, 2),
    "under another key": (_later(key=SecretBytes(f3.seed("x"))), Reason.BAD_ENVELOPE, 2),
    "without the capability": (_later(caps="{}"), Reason.CAPABILITY_MISSING, 2),
}


def _refused(pair: Pair, reason: Reason, code: int) -> None:
    """The server refused a RENEW for this reason, and the client was told code and reason, sealed."""
    assert isinstance(pair.server.error, RenewalRefused)
    assert pair.server.reason is reason
    assert isinstance(pair.client.error, RefusedByPeer)
    assert (pair.client.error.peer_code, pair.client.error.detail) == (code, reason.value)
    assert str(pair.client.error) == f"the peer refused with code {code}: {reason.value}"
    assert pair.s.exp == EXP


@pytest.mark.parametrize("name", REFUSED_RENEWALS)
def test_a_renewal_is_judged_as_a_ticket_is_and_more(name: str) -> None:
    grant, reason, code = REFUSED_RENEWALS[name]
    pair = f3.open_pair()
    pair.server.feed(f3.sealed(pair.client, FrameType.RENEW, renewal.request(grant, pair.c._transcript)))
    pair.flush()
    _refused(pair, reason, code)


BAD_PROOFS: dict[str, tuple[Callable[[Pair], bytes], Reason]] = {
    "of another channel": (lambda pair: renewal.request(_later(), bytes(32)), Reason.BAD_RENEWAL),
    "by the old session key": (
        lambda pair: renewal.request(dataclasses.replace(_later(), session_key=SESSION_KEY), pair.c._transcript),
        Reason.BAD_RENEWAL,
    ),
    "for another ticket": (
        lambda pair: _edit(renewal.request(_later(), pair.c._transcript), ticket=f3.grant(f3.ticket_of(exp=EXP + 9)).ticket),
        Reason.BAD_RENEWAL,
    ),
    "empty": (lambda pair: _edit(renewal.request(_later(), pair.c._transcript), proof=""), Reason.BAD_RENEWAL),
    "half": (
        lambda pair: _edit(renewal.request(_later(), pair.c._transcript), proof="KMFhFAPiRWtYFmbD16cHWg=="),
        Reason.BAD_RENEWAL,
    ),
    "not base64": (lambda pair: _edit(renewal.request(_later(), pair.c._transcript), proof="%"), Reason.MALFORMED),
    "missing": (lambda pair: b'{"ticket":""}', Reason.MALFORMED),
    "with one member more": (lambda pair: _edit(renewal.request(_later(), pair.c._transcript), more=1), Reason.MALFORMED),
    "not JSON": (lambda pair: b"", Reason.MALFORMED),
}


def _edit(payload: bytes, **changes: Any) -> bytes:
    return json.dumps({**json.loads(payload), **changes}).encode()


@pytest.mark.parametrize("name", BAD_PROOFS)
def test_a_renewal_must_be_proven_on_this_very_channel(name: str) -> None:
    make, reason = BAD_PROOFS[name]
    pair = f3.open_pair()
    pair.server.feed(f3.sealed(pair.client, FrameType.RENEW, make(pair)))
    pair.flush()
    _refused(pair, reason, 2)


@pytest.mark.parametrize(
    "grant",
    [
        _later(0),
        _later(-1),
        dataclasses.replace(_later(), client_id="client2"),
        dataclasses.replace(_later(), service_id="MasterService"),
    ],
    ids=["same end", "earlier", "other client", "other service"],
)
def test_the_client_does_not_send_a_renewal_that_is_none(grant: Any) -> None:
    pair = f3.open_pair()
    with pytest.raises(LocalMisuse):
        pair.c.renew(grant)
    assert pair.client.take() == b""


def test_a_client_renews_only_while_its_direction_is_open() -> None:
    pair = f3.new_pair()
    assert not pair.c.renewable
    pair.flush()
    pair.c.close()
    with pytest.raises(LocalMisuse):
        pair.c.renew(_later())


def test_a_refusal_after_our_close_is_not_told_for_close_was_our_last_frame() -> None:
    pair = f3.open_pair()
    pair.s.close()
    pair.flush()
    pair.server.feed(f3.sealed(pair.client, FrameType.RENEW, b"{}"))
    assert isinstance(pair.server.error, RenewalRefused)
    assert pair.server.take() == b""


# --- end of life and grace


def test_a_channel_ends_at_its_tickets_end_and_the_peer_is_told_to_fetch_a_new_one() -> None:
    pair = f3.open_pair()
    assert pair.s.next_deadline() == EXP
    assert pair.s.tick(EXP - 0.001) == []
    (failed,) = pair.s.tick(EXP)
    assert isinstance(failed, ChannelFailed)
    assert isinstance(failed.error, ChannelExpired)
    pair.client.feed(pair.server.take())
    assert isinstance(pair.client.error, RefusedByPeer)
    assert pair.client.error.peer_code == 43


@pytest.mark.parametrize("side", BOTH)
def test_data_that_comes_after_the_end_is_not_delivered(side: str) -> None:
    pair = f3.open_pair()
    source, target = _ends(pair, side)
    source.channel.send(b"late")
    target.feed(source.take(), EXP)
    assert target.received == b""
    assert isinstance(target.error, ChannelExpired)


@pytest.mark.parametrize("mode", Mode)
def test_a_ticket_that_ends_within_the_handshake_is_refused_as_any_other(mode: Mode) -> None:
    pair = f3.new_pair(mode, grant_=f3.grant(f3.ticket_of(exp=int(NOW) + 5)))
    pair.flush(NOW + 4)
    assert pair.server.of(HandshakeCompleted)
    late = f3.new_pair(mode, grant_=f3.grant(f3.ticket_of(exp=int(NOW) + 5)))
    late.server.feed(late.client.take(), NOW + 4)
    late.client.feed(late.server.take(), NOW + 4)
    late.flush(NOW + 5)
    for end in late:
        assert not end.of(HandshakeCompleted)
        assert isinstance(end.error, HandshakeRefused)
    assert late.server.reason is Reason.TICKET_EXPIRED
    assert (late.s.peer, late.s.capabilities, late.c.peer) == ("", caps.Capabilities(), "")


def test_a_grant_without_exp_leaves_the_end_to_the_server() -> None:
    pair = f3.open_pair(grant_=dataclasses.replace(f3.grant(), exp=0))
    assert pair.c.exp == math.inf
    assert pair.c.next_deadline() is None
    assert pair.c.tick(EXP * 2) == []
    pair.c.renew(dataclasses.replace(_later(), exp=0))
    pair.flush()
    assert pair.s.exp == EXP + 3600


class Authnode:
    """When our own last try at it went unanswered, if it did."""

    def __init__(self) -> None:
        self.unanswered: float | None = None

    def __call__(self) -> float | None:
        return self.unanswered


@pytest.mark.parametrize("side", BOTH)
def test_grace_holds_while_our_own_tries_at_the_authnode_go_unanswered(side: str) -> None:
    authnode = Authnode()
    pair = f3.open_pair(acceptor_=f3.acceptor(unanswered_try=authnode, grace=100.0), unanswered_try=authnode, grace=100.0)
    channel = _ends(pair, side)[0].channel
    authnode.unanswered = EXP - 60.0
    assert channel.tick(EXP) == [GraceStarted(EXP)], "at most 60 s old: 60 s is still good"
    assert channel.in_grace
    deadline = channel.next_deadline()
    assert deadline is not None
    assert EXP < deadline < EXP + 0.001, "just after the try stops to count"
    authnode.unanswered = EXP + 10.0
    assert channel.tick(deadline) == [], "told once"
    assert channel.next_deadline() == pytest.approx(EXP + 70)
    assert channel.tick(EXP + 70) == []
    authnode.unanswered = EXP + 65.0
    assert channel.next_deadline() == EXP + 100, "and never longer than the setting"
    assert channel.tick(EXP + 99.9) == []
    (failed,) = channel.tick(EXP + 100)
    assert isinstance(failed, ChannelFailed)
    assert isinstance(failed.error, ChannelExpired)


@pytest.mark.parametrize("age", [60.001, 61, 3600])
def test_an_old_unanswered_try_gives_no_grace(age: float) -> None:
    pair = f3.open_pair(acceptor_=f3.acceptor(unanswered_try=lambda: EXP - age))
    assert len(pair.s.tick(EXP)) == 1
    assert pair.s.phase is Phase.FAILED


def test_an_answer_of_the_authnode_ends_grace() -> None:
    authnode = Authnode()
    authnode.unanswered = float(EXP)
    pair = f3.open_pair(acceptor_=f3.acceptor(unanswered_try=authnode))
    assert pair.s.tick(EXP + 1) == [GraceStarted(EXP)]
    authnode.unanswered = None
    assert pair.s.next_deadline() == EXP, "at once"
    assert isinstance(pair.s.tick(EXP + 2)[0], ChannelFailed)


def test_grace_of_zero_is_none_and_the_default_is_an_hour() -> None:
    none = f3.open_pair(acceptor_=f3.acceptor(unanswered_try=lambda: float(EXP), grace=0.0))
    assert isinstance(none.s.tick(EXP)[0], ChannelFailed)
    assert f3.acceptor().grace == 3600


def test_a_renewal_ends_grace_and_a_later_one_is_told_again() -> None:
    authnode = Authnode()
    authnode.unanswered = float(EXP)
    pair = f3.open_pair(acceptor_=f3.acceptor(unanswered_try=authnode))
    assert pair.s.tick(EXP + 1) == [GraceStarted(EXP)]
    pair.c.renew(_later())
    pair.flush(EXP + 2)
    assert not pair.s.in_grace
    authnode.unanswered = float(EXP + 3600)
    assert pair.s.tick(EXP + 3600) == [GraceStarted(EXP + 3600)]


def test_a_new_handshake_has_no_grace() -> None:
    pair = f3.new_pair(grant_=f3.grant(f3.ticket_of(exp=int(NOW) - 1)), acceptor_=f3.acceptor(unanswered_try=lambda: NOW))
    pair.flush()
    assert pair.server.reason is Reason.TICKET_EXPIRED


# --- limits


@pytest.mark.parametrize("side", BOTH)
def test_before_completion_64_kib_after_it_1_mib(side: str) -> None:
    too_much = f3.new_pair()
    too_much.server.feed(too_much.client.take())
    too_much.client.feed(too_much.server.take())
    too_much.server.feed(too_much.client.take())
    too_much.server.take()
    too_much.server.feed(f3.frame_bytes(6, bytes(64 * 1024 + 1))[:12])
    assert too_much.server.reason is Reason.TOO_LARGE
    pair = f3.open_pair()
    source, target = _ends(pair, side)
    most = bytes(1024 * 1024 - 16)
    target.feed(f3.sealed(source, FrameType.DATA, most))
    assert target.received == most
    target.feed(f3.sealed(source, FrameType.DATA, most + b"x")[:12])
    assert target.reason is Reason.TOO_LARGE


@pytest.mark.parametrize("side", BOTH)
def test_two_to_the_32_records_end_the_channel(side: str) -> None:
    pair = f3.open_pair()
    source, target = _ends(pair, side)
    assert source.channel._sealer is not None
    assert target.channel._opener is not None
    source.channel._sealer._counter.used = target.channel._opener._counter.used = (1 << 32) - 1
    source.channel.send(b"last")
    pair.flush()
    assert target.received == b"last"
    with pytest.raises(RecordRefused) as limit:
        source.channel.send(b"one more")
    assert limit.value.reason is Reason.RECORD_LIMIT
    assert source.channel.ended
    target.feed(f3.frame_bytes(6, bytes(16)))
    assert target.reason is Reason.RECORD_LIMIT


def test_a_channel_without_records_left_fails_without_an_error_frame() -> None:
    pair = f3.open_pair()
    assert pair.s._sealer is not None
    pair.s._sealer._counter.used = 1 << 32
    assert isinstance(pair.s.tick(EXP)[0], ChannelFailed)
    assert pair.s.data_to_send() == []


# --- ERROR


BAD_ERRORS = {
    "not JSON": b"x",
    "data not null": b'{"code":2,"msg":"x","data":1}',
    "no data": b'{"code":2,"msg":"x"}',
    "more": b'{"code":2,"msg":"x","data":null,"a":1}',
    "code as text": b'{"code":"2","msg":"x","data":null}',
    "negative code": b'{"code":-1,"msg":"x","data":null}',
    "huge code": b'{"code":99999999999,"msg":"x","data":null}',
}


@pytest.mark.parametrize("name", BAD_ERRORS)
def test_an_ill_formed_error_ends_the_channel_all_the_same(name: str) -> None:
    pair = f3.open_pair()
    pair.client.feed(f3.sealed(pair.server, FrameType.ERROR, BAD_ERRORS[name]))
    assert pair.client.reason is Reason.MALFORMED
    client = f3.new_pair().client
    client.take()
    client.feed(f3.frame_bytes(5, BAD_ERRORS[name]))
    assert client.reason is Reason.MALFORMED


def test_the_peers_text_is_safe_to_print() -> None:
    pair = f3.open_pair()
    text = refusal.Refusal(2, "a\x1b[31m\nb" + "x" * 5000)
    pair.client.feed(f3.sealed(pair.server, FrameType.ERROR, text.payload()))
    assert str(pair.client.error).isprintable()
    assert len(str(pair.client.error)) < 400


def test_an_error_is_not_answered() -> None:
    pair = f3.open_pair()
    pair.client.feed(f3.sealed(pair.server, FrameType.ERROR, refusal.UNIFORM.payload()))
    assert pair.client.take() == b""


def test_what_was_queued_before_a_failure_still_goes_out_and_the_error_last() -> None:
    pair = f3.open_pair()
    pair.s.send(b"queued")
    pair.server.feed(f3.frame_bytes(6, bytes(20)))
    assert pair.server.reason is Reason.BAD_RECORD
    pair.client.feed(pair.server.take())
    assert pair.client.received == b"queued"
    assert isinstance(pair.client.error, RefusedByPeer)
    assert pair.client.error.detail == "bad_record"
