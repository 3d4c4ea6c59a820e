"""Two relays back to back, in any order of events, in any cut of the streams, with or without somebody who tampers.

What the daemon reads is what the client wrote, up to some point; its clean end comes only after all of it and the client's own
end; the same the other way round. Whatever happened, each relay ends once and gives every side up.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import f3
from tests.support.f3 import NOW
from tests.support.relays import DAEMON, PEER

from cubeauth.phases import Mode
from cubeauth_sidecar.commands import Close, CloseWriting, Command, Dial, FetchTicket, Hold, Outcome, Record, Release, Reset, Send
from cubeauth_sidecar.events import (
    Accepted,
    DeadlinePassed,
    Dialed,
    DialFailed,
    EndOfStream,
    Event,
    Lost,
    Received,
    Side,
    Stopped,
    TicketReady,
)
from cubeauth_sidecar.relay_accepting import AcceptingRelay
from cubeauth_sidecar.relay_connecting import ConnectingRelay
from cubeauth_sidecar.relay_tcp import Relay, Rules

FINAL = {Outcome.REFUSED, Outcome.FAILED, Outcome.CLOSED}


@dataclass
class Pipe:
    """Bytes on their way to a relay's side; ended: FIN after them; broken: RST instead of whatever is left."""

    waiting: bytearray = field(default_factory=bytearray)
    ended: bool = False
    broken: bool = False
    told: bool = False


@dataclass
class Plain:
    """A plain process: what it wrote and ended, what it got, and how that ended."""

    wrote: bytearray = field(default_factory=bytearray)
    ended: bool = False
    got: bytearray = field(default_factory=bytearray)
    got_end: bool = False
    got_reset: bool = False


class Line:
    """client - connecting relay - accepting relay - daemon. Dials succeed at once, unless `daemon_down`."""

    def __init__(self, mode: Mode, daemon_down: bool) -> None:
        self.mode = mode
        self.daemon_down = daemon_down
        self.plain = {"c": Plain(), "a": Plain()}
        self.relays: dict[str, Relay] = {
            "c": ConnectingRelay(Rules(mode, 0.0), f3.chance("c"), NOW),
            "a": AcceptingRelay(f3.acceptor(mode=mode, grace=0.0), f3.chance("a"), NOW),
        }
        self.local = {"c": Pipe(), "a": Pipe()}
        self.wire = {"c": Pipe(), "a": Pipe()}  # on the way to that relay
        self.held = False
        self.daemon_there = False
        self.finals = {"c": 0, "a": 0}
        self.given_up: dict[str, set[Side]] = {"c": set(), "a": set()}
        self.happen("c", Accepted())

    def happen(self, name: str, event: Event) -> None:
        for command in self.relays[name].handle(event, NOW):
            self.carry_out(name, command)

    def carry_out(self, name: str, command: Command) -> None:
        plain, wire = self.plain[name], self.wire["a" if name == "c" else "c"]
        match command:
            case FetchTicket():
                self.happen(name, TicketReady(f3.grant()))
            case Dial() if name == "c":
                self.happen("a", Accepted())
                self.happen("c", Dialed())
            case Dial():
                self.daemon_there = not self.daemon_down
                self.happen("a", Dialed() if self.daemon_there else DialFailed("refused"))
            case Hold() | Release():
                self.held = isinstance(command, Hold)
            case Send(Side.PEER, buffers):
                wire.waiting += b"".join(bytes(buffer) for buffer in buffers)
            case Send(_, buffers):
                assert not plain.got_end
                plain.got += b"".join(bytes(buffer) for buffer in buffers)
            case CloseWriting(Side.PEER):
                wire.ended = True
            case CloseWriting():
                plain.got_end = True
            case Close(side) | Reset(side):
                self.given_up[name].add(side)
                if side is Side.PEER:
                    wire.ended = True
                    wire.broken = wire.broken or isinstance(command, Reset)
                elif isinstance(command, Reset):
                    plain.got_reset = True
                else:
                    plain.got_end = True
            case Record(outcome) if outcome in FINAL:
                self.finals[name] += 1

    def deliver(self, name: str, side: Side, count: int, flip: int | None = None) -> None:
        """Up to `count` bytes, or the end, of what is on its way to this side of this relay."""
        pipe = self.wire[name] if side is PEER else self.local[name]
        if pipe.told or (side is DAEMON and (self.held if name == "c" else not self.daemon_there)):
            return
        if pipe.broken:
            pipe.told = True
            self.happen(name, Lost(side, "reset"))
        elif pipe.waiting:
            part = bytearray(pipe.waiting[:count])
            del pipe.waiting[:count]
            if flip is not None:
                part[flip % len(part)] ^= 1
            self.happen(name, Received(side, memoryview(part)))
            part[:] = bytes(len(part))
        elif pipe.ended:
            pipe.told = True
            self.happen(name, EndOfStream(side))

    def check(self) -> None:
        for reader, writer in (("a", "c"), ("c", "a")):
            got, wrote = self.plain[reader], self.plain[writer]
            assert wrote.wrote.startswith(got.got)
            if got.got_end:
                assert wrote.ended
                assert got.got == wrote.wrote
        for name, relay in self.relays.items():
            assert self.finals[name] == (1 if relay.closed else 0)
            if relay.closed:
                assert self.given_up[name] == {PEER, DAEMON}


NAMES, SIDES = st.sampled_from("ca"), st.sampled_from([PEER, DAEMON])
STEPS = st.one_of(
    st.tuples(st.just("write"), NAMES, st.binary(min_size=1, max_size=40)),
    st.tuples(st.just("end"), NAMES),
    st.tuples(st.just("deliver"), NAMES, SIDES, st.integers(1, 900)),
    st.tuples(st.just("deliver"), NAMES, SIDES, st.integers(1, 900)),
    st.tuples(st.just("deliver"), NAMES, SIDES, st.integers(1, 900)),
)
VIOLENCE = st.one_of(
    st.tuples(st.just("reset"), NAMES),
    st.tuples(st.just("cut"), NAMES),
    st.tuples(st.just("flip"), NAMES, st.integers(1, 900), st.integers(0, 900)),
    st.tuples(st.just("stop"), NAMES),
    st.tuples(st.just("late"), NAMES),
)


def play(line: Line, step: tuple[object, ...]) -> None:
    match step:
        case ("write", str(name), bytes(data)) if not line.plain[name].ended:
            line.plain[name].wrote += data
            line.local[name].waiting += data
        case ("end", str(name)):
            line.plain[name].ended = line.local[name].ended = True
        case ("deliver", str(name), Side() as side, int(count)):
            line.deliver(name, side, count)
        case ("flip", str(name), int(count), int(at)):
            line.deliver(name, PEER, count, at)
        case ("reset", str(name)):
            line.local[name].broken = True
        case ("cut", str(name)):
            line.wire[name].waiting.clear()
            line.wire[name].ended = True
        case ("stop", str(name)):
            line.happen(name, Stopped())
        case ("late", str(name)):
            line.happen(name, DeadlinePassed())


def settle(line: Line) -> None:
    """Deliver everything that is on its way."""
    for _ in range(200):
        for name in "ca":
            for side in (PEER, DAEMON):
                line.deliver(name, side, 4096)
        line.check()


@given(st.sampled_from(Mode), st.lists(STEPS, max_size=60))
def test_without_violence_everything_arrives(mode: Mode, steps: list[tuple[object, ...]]) -> None:
    line = Line(mode, daemon_down=False)
    for step in steps:
        play(line, step)
        line.check()
    play(line, ("end", "c"))
    play(line, ("end", "a"))
    settle(line)
    for name, other in (("a", "c"), ("c", "a")):
        assert line.plain[name].got == line.plain[other].wrote
        assert line.plain[name].got_end
        assert not line.plain[name].got_reset
        assert line.relays[name].closed


@settings(max_examples=200)
@given(st.booleans(), st.lists(st.one_of(STEPS, STEPS, VIOLENCE), max_size=60))
def test_whatever_happens_nobody_reads_a_wrong_byte_or_a_false_end(daemon_down: bool, steps: list[tuple[object, ...]]) -> None:
    line = Line(Mode.SEALED, daemon_down)
    for step in steps:
        play(line, step)
        line.check()
    settle(line)
