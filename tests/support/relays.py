"""Relays as scripts: events in, commands out, and at the other end of the secured side a real channel."""

from __future__ import annotations

from typing import Any, TypeVar

from tests.support import f3
from tests.support.f3 import NOW, End

from cubeauth.channel import ClientChannel, ServerChannel
from cubeauth.connection import Connection
from cubeauth.exchange import TicketGrant
from cubeauth.phases import Mode
from cubeauth_sidecar.commands import Command, Outcome, Record, Send
from cubeauth_sidecar.events import Accepted, Dialed, Event, Received, Side, TicketReady
from cubeauth_sidecar.relay_accepting import AcceptingRelay
from cubeauth_sidecar.relay_connecting import ConnectingRelay
from cubeauth_sidecar.relay_tcp import Relay, Rules

PEER, DAEMON = Side.PEER, Side.DAEMON
SEALED_RULES = Rules(Mode.SEALED, grace=3600.0)

C = TypeVar("C")


class Script:
    """A relay and its far end. commands: all that it ever wanted; now: to be moved by the test."""

    def __init__(self, relay: Relay, far: Connection) -> None:
        self.relay = relay
        self.far = End(far)
        self.now = NOW
        self.commands: list[Command] = []
        self._carried = 0

    def on(self, *events: Event) -> list[Command]:
        """What the relay wants done about these."""
        new: list[Command] = []
        for event in events:
            new += self.relay.handle(event, self.now)
        self.commands += new
        return new

    def at(self, now: float) -> Script:
        self.now = now
        return self

    def feed(self, *pieces: bytes) -> list[Command]:
        """Bytes of the peer, in memory that is overwritten afterwards."""
        new: list[Command] = []
        for piece in pieces:
            memory = bytearray(piece)
            new += self.on(Received(PEER, memoryview(memory)))
            memory[:] = b"\xff" * len(memory)
        return new

    def from_daemon(self, data: bytes) -> list[Command]:
        memory = bytearray(data)
        new = self.on(Received(DAEMON, memoryview(memory)))
        memory[:] = b"\xff" * len(memory)
        return new

    def carry(self) -> list[Command]:
        """Exchange bytes with the far end until both are quiet; the commands of all that."""
        begun = len(self.commands)
        while True:
            self.far.feed(sent(self.commands[self._carried :], PEER), self.now)
            self._carried = len(self.commands)
            back = self.far.take()
            if not back:
                return self.commands[begun:]
            self.feed(back)

    def of(self, kind: type[C]) -> list[C]:
        return [command for command in self.commands if isinstance(command, kind)]

    @property
    def records(self) -> list[tuple[str, str]]:
        """outcome and reason of each Record so far."""
        return [(str(one.outcome), str(one.reason or "")) for one in self.of(Record)]

    @property
    def last(self) -> Record:
        return self.of(Record)[-1]

    def to_daemon(self) -> bytes:
        """All bytes for the daemon so far."""
        return sent(self.commands, DAEMON)


def sent(commands: list[Command], side: Side) -> bytes:
    return b"".join(bytes(b) for one in commands if isinstance(one, Send) and one.side is side for b in one.buffers)


def accepting(
    *,
    grant: TicketGrant | None = None,
    mode: Mode = Mode.SEALED,
    idle: float | None = None,
    client_mode: Mode | None = None,
    **acceptor: Any,
) -> Script:
    """A relay that accepts, its connection just there; the far end has its first flight ready."""
    far = ClientChannel(grant or f3.grant(), client_mode or mode, f3.chance("far"), NOW)
    far.start()
    script = Script(AcceptingRelay(f3.acceptor(mode=mode, **acceptor), f3.chance("relay"), NOW, idle=idle), far)
    script.on(Accepted())
    return script


def accepted(**options: Any) -> Script:
    """The same with its handshake complete and its daemon dialed."""
    script = accepting(**options)
    script.carry()
    script.on(Dialed())
    assert script.records == [(Outcome.ACCEPTED, "")]
    return script


def connecting(*, rules: Rules = SEALED_RULES, acceptor: dict[str, Any] | None = None, **options: Any) -> Script:
    """A relay that connects, its connection just there; the far end waits for a ticket."""
    far = ServerChannel(f3.acceptor(mode=rules.mode, **(acceptor or {})), f3.chance("far"), NOW)
    script = Script(ConnectingRelay(rules, f3.chance("relay"), NOW, **options), far)
    script.on(Accepted())
    return script


def connected(*, grant: TicketGrant | None = None, **options: Any) -> Script:
    """The same with its handshake complete."""
    script = connecting(**options)
    script.on(TicketReady(grant or f3.grant()), Dialed())
    script.carry()
    assert script.records == [(Outcome.ACCEPTED, "")]
    return script
