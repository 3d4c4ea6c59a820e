"""The line between parent and worker, over a real socket pair: messages whole and in order, or the end of the line."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import socket
import struct
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.ticketing import RECORD

from cubeauth import strictjson
from cubeauth.errors import LocalMisuse
from cubeauth.secret import SecretBytes
from cubeauth_authnode.link import MAX_FRAME, Kind, Link, record_from_json, record_to_json


class End:
    """One end, with what came."""

    def __init__(self) -> None:
        self.messages: list[tuple[Kind, bytes]] = []
        self.lost = 0
        self.came = asyncio.Event()
        self.link = Link(self._message, self._lost)

    def _message(self, kind: Kind, payload: bytes) -> None:
        self.messages.append((kind, payload))
        self.came.set()

    def _lost(self) -> None:
        self.lost += 1
        self.came.set()

    async def wait_for(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.messages) < count and not self.lost:
                self.came.clear()
                await self.came.wait()


async def connect(end: End, sock: socket.socket) -> None:
    sock.setblocking(False)
    await asyncio.get_running_loop().create_connection(lambda: end.link, sock=sock)


@pytest.fixture
async def ends() -> AsyncIterator[tuple[End, End]]:
    made = End(), End()
    for end, sock in zip(made, socket.socketpair(), strict=True):
        await connect(end, sock)
    yield made
    for end in made:
        end.link.close()
    await asyncio.sleep(0)


async def test_messages_arrive_whole_in_order_both_ways(ends: tuple[End, End]) -> None:
    left, right = ends
    sizes = [0, 1, 3, 70_000, 0, MAX_FRAME - 1, 5]
    for size in sizes:
        left.link.send(Kind.CHANGE, bytes(size))
    right.link.send(Kind.READY)
    await right.wait_for(len(sizes))
    await left.wait_for(1)
    assert [len(payload) for _, payload in right.messages] == sizes
    assert left.messages == [(Kind.READY, b"")]


async def test_one_that_is_too_large_is_a_bug_of_the_sender(ends: tuple[End, End]) -> None:
    with pytest.raises(LocalMisuse):
        ends[0].link.send(Kind.CHANGE, bytes(MAX_FRAME))


async def test_the_end_of_the_other_is_told_once_and_then_nothing_is_sent(ends: tuple[End, End]) -> None:
    left, right = ends
    left.link.close()
    async with asyncio.timeout(20):
        await right.came.wait()
    right.link.send(Kind.READY)
    assert right.link.unsent == 0
    right.link.close()
    assert right.lost == 1


async def test_a_reader_that_is_stopped_shows_in_unsent(ends: tuple[End, End]) -> None:
    left, right = ends
    transport = right.link._transport
    assert transport is not None
    transport.pause_reading()
    for _ in range(8):
        left.link.send(Kind.CHANGE, bytes(1_000_000))
    assert left.link.unsent > 4_000_000
    transport.resume_reading()
    await right.wait_for(8)
    assert left.link.unsent == 0


@pytest.mark.parametrize(
    "garbage",
    [
        struct.pack(">IB", 0, 1),
        struct.pack(">IB", MAX_FRAME + 1, 1),
        struct.pack(">IB", 1, 0),
        struct.pack(">IB", 1, 200),
        b"\xff" * 9,
    ],
)
async def test_a_frame_that_does_not_fit_ends_the_line(garbage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = socket.socketpair()
    end = End()
    await connect(end, theirs)
    good = struct.pack(">IB", 3, Kind.CHANGE) + b"ab"
    with ours, caplog.at_level(logging.CRITICAL):
        ours.sendall(good + garbage + good)
        async with asyncio.timeout(20):
            while not end.lost:
                end.came.clear()
                await end.came.wait()
    assert end.messages == [(Kind.CHANGE, b"ab")]


_frames = st.lists(st.tuples(st.sampled_from(Kind), st.binary(max_size=40)), max_size=8)


@given(frames=_frames, cuts=st.lists(st.integers(1, 30), max_size=40))
def test_any_cuts_give_the_same_messages(frames: list[tuple[Kind, bytes]], cuts: list[int]) -> None:
    came: list[tuple[Kind, bytes]] = []
    link = Link(lambda kind, payload: came.append((kind, payload)), lambda: None)
    stream = b"".join(struct.pack(">IB", 1 + len(payload), kind) + payload for kind, payload in frames)
    for cut in [*cuts, len(stream)]:
        if stream:
            link.data_received(stream[:cut])
        stream = stream[cut:]
    assert came == frames


@given(
    st.binary(max_size=40)
    | st.builds(
        lambda n, kind, rest: struct.pack(">IB", n, kind) + rest, st.integers(0, 20), st.integers(0, 255), st.binary(max_size=40)
    )
)
def test_garbage_is_a_declared_error(data: bytes) -> None:
    link = Link(lambda _kind, _payload: None, lambda: None)
    try:
        link.data_received(data)
    except LocalMisuse:
        return
    assert len(link._buffer) <= len(data)


def test_a_record_s_way_there_and_back() -> None:
    imported = dataclasses.replace(RECORD, access_key="", secret_key=SecretBytes(b""), auth_key=SecretBytes(bytes(16)))
    for record in (RECORD, imported):
        assert record_from_json(strictjson.load_object(strictjson.dumps(record_to_json(record)))) == record
