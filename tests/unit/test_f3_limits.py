"""What a channel never goes beyond, and what its ERROR tells."""

from __future__ import annotations

import pytest
from tests.support import f3
from tests.support.f3 import BOTH, EXP

from cubeauth import refusal
from cubeauth.errors import (
    Reason,
    RecordRefused,
    RefusedByPeer,
)
from cubeauth.events import ChannelFailed
from cubeauth.frames import FrameType


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
    source, target = pair.ends(side)
    most = bytes(1024 * 1024 - 16)
    target.feed(f3.sealed(source, FrameType.DATA, most))
    assert target.received == most
    target.feed(f3.sealed(source, FrameType.DATA, most + b"x")[:12])
    assert target.reason is Reason.TOO_LARGE


@pytest.mark.parametrize("side", BOTH)
def test_two_to_the_32_records_end_the_channel(side: str) -> None:
    pair = f3.open_pair()
    source, target = pair.ends(side)
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
