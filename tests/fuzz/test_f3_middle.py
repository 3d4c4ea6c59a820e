"""A man in the middle who has no key: he drops, repeats, reorders, splices, flips, truncates, clears flags, invents.

Whatever he does, each end gets the right bytes, a prefix of what was sent and in order, or a clean ChannelError, and nothing else
comes out. Two ends that both completed saw the same four frames and hold the same keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import event as note
from hypothesis import given
from hypothesis import strategies as st
from tests.support import f3
from tests.support.f3 import End, Pair

from cubeauth.errors import ChannelError
from cubeauth.events import ChannelFailed, HandshakeCompleted, PeerClosed
from cubeauth.phases import Mode, Phase

SENT = {"client": [b"to the server", b"x" * 3000, b"the end"], "server": [b"to the client", b"y" * 2000, b"bye"]}


def _recorded(mode: Mode) -> list[bytes]:
    """Every frame of another session of the same client, service and ticket, from both ends."""
    pair = f3.new_pair(mode, label="-recorded")
    frames: list[bytes] = []
    for turn in range(8):
        for source, target, name in ((pair.client, pair.server, "client"), (pair.server, pair.client, "server")):
            if turn == 5 and source.channel.can_send:
                source.channel.send(SENT[name][0])
            buffers = [bytes(buffer) for buffer in source.channel.data_to_send()]
            frames += [buffer for buffer in buffers if buffer.startswith(b"ANF3")]
            target.feed(b"".join(buffers))
    return frames


RECORDED = {mode: _recorded(mode) for mode in Mode}


@dataclass
class Middle:
    """What travels one way: buffers as the end wrote them (a frame each), until they are delivered, changed or not."""

    name: str
    source: End
    target: End
    waiting: list[bytes] = field(default_factory=list)
    passed: list[bytes] = field(default_factory=list)

    def collect(self) -> None:
        self.waiting += [bytes(buffer) for buffer in self.source.channel.data_to_send()]

    def deliver(self, data: bytes) -> None:
        self.passed.append(data)
        self.target.feed(data)


def _flip(data: bytes, draw: st.DataObject) -> bytes:
    if not data:
        return data
    bit = draw.draw(st.integers(0, 8 * len(data) - 1), label="bit")
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _meddle(way: Middle, other: Middle, mode: Mode, draw: st.DataObject) -> str:
    """One thing that he does to what waits on this way."""
    act = draw.draw(
        st.sampled_from(
            ["pass", "pass", "drop", "repeat", "reorder", "splice", "reflect", "flip", "truncate", "flags", "invent", "cut"]
        ),
        label=f"to the {'server' if way.name == 'client' else 'client'}",
    )
    first = way.waiting.pop(0) if way.waiting else b""
    if act == "pass":
        way.deliver(first)
    elif act == "repeat":
        way.deliver(first + first)
    elif act == "reorder":
        way.waiting.insert(1, first)
        way.deliver(way.waiting.pop(0))
    elif act == "splice":
        way.deliver(draw.draw(st.sampled_from(RECORDED[mode]), label="recorded"))
        if draw.draw(st.booleans(), label="and the right one after it"):
            way.deliver(first)
    elif act == "reflect":
        way.deliver(draw.draw(st.sampled_from([*way.passed, *other.passed, b""]), label="reflected"))
    elif act == "flip":
        way.deliver(_flip(first, draw))
    elif act == "truncate":
        way.deliver(first[: draw.draw(st.integers(0, max(0, len(first) - 1)), label="kept")])
    elif act == "flags":
        way.deliver(first[:6] + b"\0\0" + first[8:] if first[6:8] != b"\0\0" else first[:6] + b"\0\x01" + first[8:])
    elif act == "invent":
        way.deliver(draw.draw(st.binary(max_size=40), label="bytes"))
    elif act == "cut":
        way.waiting.clear()
        way.target.eof()
    return act


class Script:
    """What each end sends once its handshake is complete, and then closes."""

    def __init__(self) -> None:
        self.sent = {"client": b"", "server": b""}
        self.left = {name: list(pieces) for name, pieces in SENT.items()}

    def go_on(self, way: Middle) -> None:
        channel = way.source.channel
        if not channel.can_send:
            return
        if self.left[way.name]:
            data = self.left[way.name].pop(0)
            channel.send(data)
            self.sent[way.name] += data
        else:
            channel.close()


def _run(mode: Mode, draw: st.DataObject, turns: int) -> tuple[Pair, Script, set[str]]:
    pair, script, acts = f3.new_pair(mode), Script(), set()
    forth, back = Middle("client", pair.client, pair.server), Middle("server", pair.server, pair.client)
    meddled_from = draw.draw(st.integers(0, turns), label="meddles from turn")
    for turn in range(turns + 12):
        for way, other in ((forth, back), (back, forth)):
            script.go_on(way)
            way.collect()
            if meddled_from <= turn < turns:
                acts.add(_meddle(way, other, mode, draw))
            elif way.waiting:
                way.deliver(way.waiting.pop(0))
    for way in (forth, back):
        way.deliver(b"".join(way.waiting))
        way.target.eof()
    return pair, script, acts


def _same_keys(pair: Pair) -> bool:
    """What each end sends opens at the other: compared by sealing the same record number with both."""
    c, s = pair.c, pair.s
    assert c._sealer is not None
    assert c._opener is not None
    assert s._sealer is not None
    assert s._opener is not None
    nonce, text = bytes(12), b"probe"
    return c._sealer._cipher.encrypt(nonce, text, None) == s._opener._cipher.encrypt(
        nonce, text, None
    ) and s._sealer._cipher.encrypt(nonce, text, None) == c._opener._cipher.encrypt(nonce, text, None)


def _check_completion(pair: Pair) -> None:
    completed = [end for end in pair if end.of(HandshakeCompleted)]
    for end in completed:
        assert len(end.of(HandshakeCompleted)) == 1
        assert pair.c._transcript == pair.s._transcript != b"", "who completed, completed with a peer that saw the same frames"
        assert _same_keys(pair)


def _check_end(end: End) -> None:
    assert end.channel.phase in (Phase.FAILED, Phase.PEER_CLOSED)
    failures = end.of(ChannelFailed)
    assert len(failures) <= 1
    assert all(isinstance(failure.error, ChannelError) for failure in failures)
    if failures:
        assert isinstance(end.events[-1], ChannelFailed), "nothing after a failure"
    if end.received or end.of(PeerClosed):
        assert isinstance(end.events[0], HandshakeCompleted), "nothing before completion"


@given(st.data(), st.integers(0, 12))
def test_the_right_bytes_or_a_clean_error(draw: st.DataObject, turns: int) -> None:
    pair, script, acts = _run(Mode.SEALED, draw, turns)
    for end, expected in ((pair.server, script.sent["client"]), (pair.client, script.sent["server"])):
        _check_end(end)
        assert expected.startswith(end.received), "a prefix of what was sent, in order"
        closed = [event for event in end.events if isinstance(event, PeerClosed)]
        assert not closed or end.received == expected, "a clean close only after the last byte"
    _check_completion(pair)
    note("completed" if pair.server.of(HandshakeCompleted) else "refused")
    if not acts - {"pass"}:
        assert not [*pair.client.of(ChannelFailed), *pair.server.of(ChannelFailed)], "left alone, it works"


@given(st.data(), st.integers(0, 4))
def test_in_clear_mode_the_handshake_is_as_safe(draw: st.DataObject, turns: int) -> None:
    pair, _, acts = _run(Mode.CLEAR, draw, turns)
    for end in pair:
        _check_end(end)
    _check_completion(pair)
    if not acts - {"pass"}:
        assert pair.server.received == b"".join(SENT["client"])


@given(st.data())
def test_one_changed_bit_of_the_handshake_never_completes_at_both_ends(draw: st.DataObject) -> None:
    """The sharpest form: everything passes but one bit of one of the four frames."""
    pair = f3.new_pair(draw.draw(st.sampled_from(Mode)))
    victim = draw.draw(st.integers(0, 3), label="frame")
    number = 0
    for _ in range(4):
        for source, target in ((pair.client, pair.server), (pair.server, pair.client)):
            for buffer in source.channel.data_to_send():
                data = bytes(buffer)
                target.feed(_flip(data, draw) if number == victim else data)
                number += 1
    completed = [end for end in pair if end.of(HandshakeCompleted)]
    assert completed == []
