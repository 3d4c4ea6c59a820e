"""A channel in use: data, half-close, truncation, clear mode; before that: the deadline of its handshake."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.support import f3
from tests.support.f3 import BOTH, EXP, NOW

from cubeauth.channel import ClientChannel
from cubeauth.connection import DATA_BYTES, HANDSHAKE_SECONDS
from cubeauth.errors import (
    ChannelExpired,
    HandshakeRefused,
    LocalMisuse,
    Reason,
    RecordRefused,
    StreamTruncated,
)
from cubeauth.events import ChannelFailed, DataReceived, HandshakeCompleted, PeerClosed
from cubeauth.frames import FrameType
from cubeauth.phases import Mode


@pytest.mark.parametrize("side", BOTH)
@pytest.mark.parametrize("size", [1, DATA_BYTES - 1, DATA_BYTES, DATA_BYTES + 1, 3 * DATA_BYTES])
@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview], ids=lambda wrap: wrap.__name__)
def test_data_arrives_in_records_of_bounded_size(side: str, size: int, wrap: Callable[[bytes], Any]) -> None:
    pair = f3.open_pair()
    source, target = pair.ends(side)
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
    source, target = pair.ends(side)
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


@pytest.mark.parametrize("side", BOTH)
def test_one_direction_closes_and_the_other_goes_on(side: str) -> None:
    pair = f3.open_pair()
    closer, other = pair.ends(side)
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
    closer, other = pair.ends(side)
    closer.channel.close()
    pair.flush()
    other.feed(f3.sealed(closer, kind)[:1])
    assert other.reason is Reason.OUT_OF_PLACE
    assert isinstance(other.error, RecordRefused)


@pytest.mark.parametrize("side", BOTH)
def test_a_close_with_data_is_refused(side: str) -> None:
    pair = f3.open_pair()
    source, target = pair.ends(side)
    target.feed(f3.sealed(source, FrameType.CLOSE, b"x"))
    assert target.reason is Reason.OUT_OF_PLACE


@pytest.mark.parametrize("side", BOTH)
@pytest.mark.parametrize("kept", [0, 1, 12, 30])
def test_an_end_without_close_is_truncation(side: str, kept: int) -> None:
    pair = f3.open_pair()
    source, target = pair.ends(side)
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


@pytest.mark.parametrize("side", BOTH)
def test_clear_bytes_go_through_as_they_are(side: str) -> None:
    pair = f3.open_pair(Mode.CLEAR)
    source, target = pair.ends(side)
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
        pair.c.renew(f3.later())
