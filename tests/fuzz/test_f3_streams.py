"""Two real ends back to back: whatever is sent and however it is cut, the right bytes come out, each direction by itself."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st
from tests.support import f3
from tests.support.f3 import End, Pair

from cubeauth.connection import DATA_BYTES
from cubeauth.events import ChannelFailed, HandshakeCompleted, PeerClosed, Renewed
from cubeauth.phases import Mode

SIZES = st.one_of(st.integers(0, 300), st.sampled_from([DATA_BYTES - 1, DATA_BYTES, DATA_BYTES + 1, 600_000]))
CUTS = st.lists(st.sampled_from([1, 2, 11, 12, 13, 500, 65_536, 300_000]), min_size=1, max_size=5)


@dataclass(frozen=True)
class Act:
    """One end sends, closes or renews; then so many bytes are carried each way."""

    side: int
    what: str
    size: int
    carried: int


ACTS = st.lists(
    st.builds(
        Act,
        side=st.integers(0, 1),
        what=st.sampled_from(["send", "send", "send", "renew", "close"]),
        size=SIZES,
        carried=st.sampled_from([0, 1, 40, 5_000, 10_000_000]),
    ),
    max_size=12,
)


class Wire:
    """Bytes on their way to one end, delivered in pieces of the drawn sizes."""

    def __init__(self, source: End, target: End, cuts: list[int]) -> None:
        self.source, self.target, self.cuts = source, target, cuts
        self.held = bytearray()
        self.turn = 0

    def carry(self, most: int) -> None:
        self.held += self.source.take()
        while self.held and most > 0:
            size = min(self.cuts[self.turn % len(self.cuts)], most)
            # Byte by byte through all of a bulk record is for the unit tests; here it would take a minute.
            size = size if len(self.held) < 10_000 else max(size, 4096)
            self.target.feed(bytes(self.held[:size]))
            del self.held[:size]
            most, self.turn = most - size, self.turn + 1


def _perform(pair: Pair, act: Act, sent: list[bytes], exps: list[int]) -> None:
    end = (pair.client, pair.server)[act.side]
    if act.what == "send" and end.channel.can_send:
        data = f3.chance(f"{len(sent[act.side])}")(act.size)
        end.channel.send(data)
        sent[act.side] += data
    elif act.what == "close" and end.channel.can_send:
        end.channel.close()
    elif act.what == "renew" and pair.c.renewable:
        exps.append(exps[-1] + 10)
        pair.c.renew(f3.grant(f3.ticket_of(exp=exps[-1])))


@given(st.sampled_from(Mode), ACTS, CUTS, CUTS)
def test_what_one_end_sends_the_other_gets_in_order(mode: Mode, acts: list[Act], forth: list[int], back: list[int]) -> None:
    pair = f3.new_pair(mode)
    wires = [Wire(pair.client, pair.server, forth), Wire(pair.server, pair.client, back)]
    for _ in range(3):
        for wire in wires:
            wire.carry(1 << 30)
    sent, exps = [b"", b""], [int(f3.NOW) + 3600]
    for act in acts:
        _perform(pair, act, sent, exps)
        for wire in wires:
            wire.carry(act.carried)
        assert sent[0].startswith(pair.server.received)
        assert sent[1].startswith(pair.client.received)
    for end in pair:
        end.channel.close()
    for wire in wires:
        wire.carry(1 << 30)
        wire.target.eof()
    for end, expected in ((pair.server, sent[0]), (pair.client, sent[1])):
        assert end.received == expected
        assert isinstance(end.events[0], HandshakeCompleted)
        assert isinstance(end.events[-1], PeerClosed)
        assert not end.of(ChannelFailed)
        assert end.channel.ended
    assert [event.exp for event in pair.server.of(Renewed)] == exps[1:]
