"""One TCP connection through the sidecar, without I/O: events in, commands out.

Between a secured side (PEER, an F3 channel) and a plain one (DAEMON) bytes,
half-closes and resets pass as they are; what the plain side cannot tell, a
stream cut short on the way, becomes a reset. Two roles, in modules of their
own: accepting (PEER came in, DAEMON is dialed once the handshake is complete)
and connecting (DAEMON came in, PEER is dialed at once).

                NEW
                 |  Accepted
    accepting    |    connecting
    HANDSHAKING  |    FETCHING     a ticket
    DIALING      |    DIALING
                 |    HANDSHAKING
                OPEN
                 |  both directions ended, or anything went wrong
               CLOSED

`handle` takes an event with the time, unix seconds, and gives the commands to
carry out, in order; `next_deadline` says when DeadlinePassed is due.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from cubeauth import events as channel_events
from cubeauth.channel import ClientChannel, ServerChannel
from cubeauth.errors import LocalMisuse, PeerError, Reason, RecordRefused
from cubeauth.frames import Buffer
from cubeauth.phases import Mode
from cubeauth_sidecar.commands import ORDERLY, AskAuthnode, Close, CloseWriting, Command, End, Outcome, Record, Reset, Send
from cubeauth_sidecar.events import DeadlinePassed, EndOfStream, Event, Lost, Received, Side, Stopped

ASK_AHEAD = 30.0
"""Seconds before a channel's end that we find out whether the Authnode answers: a try may take 20, and counts for 60."""

ASK_EVERY = 30.0
"""Seconds; so that during grace the last try is never older than the 60 that it counts for."""


class Stage(StrEnum):
    NEW = "new"
    FETCHING = "fetching"
    DIALING = "dialing"
    HANDSHAKING = "handshaking"
    OPEN = "open"
    CLOSED = "closed"


ALWAYS = frozenset({DeadlinePassed, Stopped, Lost})
"""Events that may come in any stage."""

FLOWING = ALWAYS | {Received, EndOfStream}

RESET_PEER = Reset(Side.PEER)


@dataclass(frozen=True, slots=True)
class Rules:
    """Of one listener. grace: seconds; idle: seconds without a byte after which a connection ends, None for never."""

    mode: Mode
    grace: float
    idle: float | None = None


class Relay(ABC):
    """What both roles share: the flow of bytes once there is a channel, its lifetime and its end.

    from_peer, to_peer: bytes of plaintext so far; to be read only, as is stage.
    """

    legal: ClassVar[dict[Stage, frozenset[type[Event]]]]

    def __init__(self, rules: Rules, now: float) -> None:
        self.stage = Stage.NEW
        self.from_peer = 0
        self.to_peer = 0
        self._rules = rules
        self._now = self._since = self._active = now
        self._channel: ClientChannel | ServerChannel | None = None
        self._commands: list[Command] = []
        self._accepted = False
        self._peer_ended = False
        self._daemon_ended = False
        self._asked = -math.inf
        self._jti = ""

    @property
    def closed(self) -> bool:
        """Whether every command was given, and no event matters any more."""
        return self.stage is Stage.CLOSED

    @property
    def opening(self) -> bool:
        """Whether nobody is known yet at the other end of the secured side."""
        return not self._accepted and self.stage is not Stage.CLOSED

    @property
    def in_grace(self) -> bool:
        """Whether the connection outlives its ticket."""
        return self._channel is not None and self._channel.in_grace

    def handle(self, event: Event, now: float) -> list[Command]:
        """What to do about `event`. Raises LocalMisuse for one that cannot come in this stage."""
        if self.stage is Stage.CLOSED:
            return []
        if type(event) not in self.legal[self.stage]:
            raise LocalMisuse(f"{type(event).__name__} while {self.stage}")
        commands: list[Command] = []
        self._commands = commands
        self._now = now
        if type(event) is Received:
            self._active = now
            if event.side is Side.PEER:
                self._heard(self._open_channel.receive_data(event.data, now))
            else:
                self._pass_on(event.data)
        else:
            self._on_turn(event)
        return commands

    def _on_turn(self, event: Event) -> None:
        """Everything but the flow of bytes."""
        match event:
            case EndOfStream(Side.PEER):
                self._heard(self._open_channel.receive_eof(self._now))
            case EndOfStream():
                self._end_our_direction()
            case Lost(Side.PEER, problem) if self._accepted:
                self._end(self._reason_of_loss(), problem)
            case Lost(Side.PEER):
                self._heard(self._open_channel.receive_eof(self._now))
            case Lost(_, problem):
                self._end(End.DAEMON_LOST, problem)
            case Stopped():
                self._end(End.STOPPED)
            case DeadlinePassed():
                self._on_deadline()
            case _:
                self._step(event)

    def next_deadline(self) -> float | None:
        """When DeadlinePassed is due, unix seconds; it may move with every event."""
        if self.stage is Stage.CLOSED:
            return None
        of_channel = self._channel.next_deadline() if self._channel else None
        times = (of_channel, self._idle_at(), self._ask_at(), self._own_deadline())
        return min((time for time in times if time is not None), default=None)

    @abstractmethod
    def _step(self, event: Event) -> None:
        """An event of one role alone."""

    @abstractmethod
    def _handshake_completed(self) -> None:
        """The peer is known: what was waiting for that."""

    @abstractmethod
    def _own_deadline(self) -> float | None:
        """When the role itself has something to do."""

    @abstractmethod
    def _on_own_deadline(self) -> None:
        """What that is, now that it is due."""

    @abstractmethod
    def _peer_name(self) -> str:
        """Who the peer is, or says it is."""

    @property
    def _open_channel(self) -> ClientChannel | ServerChannel:
        assert self._channel is not None  # the peer's side exists
        return self._channel

    def _heard(self, happened: list[channel_events.Event]) -> None:
        """Carry the channel's events over to the daemon's side."""
        data: list[Buffer] = []
        ended = False
        for event in happened:
            match event:
                case channel_events.DataReceived():
                    self.from_peer += len(event.data)
                    data.append(self._kept(event.data))
                case channel_events.PeerClosed():
                    self._peer_ended = ended = True
                case channel_events.HandshakeCompleted():
                    self._accepted = True
                    self._jti = event.jti
                    self._record(Outcome.ACCEPTED)
                    self._handshake_completed()
                case channel_events.Renewed():
                    self._jti = event.jti
                    self._record(Outcome.RENEWED)
                case channel_events.GraceStarted():
                    self._record(Outcome.GRACE)
                case channel_events.ChannelFailed():
                    self._fail(event.error)
                    return
        if data:
            self._commands.append(Send(Side.DAEMON, data))
        if ended:
            self._commands.append(CloseWriting(Side.DAEMON))
        self._flush()
        self._finish()

    def _kept(self, data: Buffer) -> Buffer:
        """In clear mode a channel passes on the very memory that is read into again."""
        return data if self._rules.mode is Mode.SEALED else bytes(data)

    def _pass_on(self, data: Buffer) -> None:
        self.to_peer += len(data)
        try:
            self._open_channel.send(self._kept(data))
        except RecordRefused as e:
            self._fail(e)
            return
        self._flush()

    def _end_our_direction(self) -> None:
        try:
            self._open_channel.close()
        except RecordRefused as e:
            self._fail(e)
            return
        self._daemon_ended = True
        self._flush()
        self._commands.append(CloseWriting(Side.PEER))
        self._finish()

    def _flush(self) -> None:
        if self._channel is not None and (out := self._channel.data_to_send()):
            self._commands.append(Send(Side.PEER, out))

    def _finish(self) -> None:
        if self._peer_ended and self._daemon_ended:
            self._commands += [Close(Side.PEER), Close(Side.DAEMON)]
            self._record(Outcome.CLOSED, End.COMPLETE)
            self.stage = Stage.CLOSED

    def _fail(self, error: PeerError) -> None:
        """The channel is dead. The peer may still read why; the daemon must not take it for the end of the stream."""
        self._flush()
        self._end(error.reason, str(error), peer=Close(Side.PEER))

    def _end(self, reason: Reason | End, detail: str = "", *, peer: Close | Reset = RESET_PEER) -> None:
        self._commands += [peer, Reset(Side.DAEMON)]
        refused = isinstance(reason, Reason) and not self._accepted
        orderly = reason in ORDERLY and self._accepted
        self._record(Outcome.REFUSED if refused else Outcome.CLOSED if orderly else Outcome.FAILED, reason, detail)
        self.stage = Stage.CLOSED

    def _reason_of_loss(self) -> Reason | End:
        """Of a peer that is gone: cut short, unless its end came before or, in clear mode, nobody can tell."""
        told = self._peer_ended or self._rules.mode is Mode.CLEAR
        return End.PEER_LOST if told else Reason.TRUNCATED

    def _record(self, outcome: Outcome, reason: Reason | End | None = None, detail: str = "") -> None:
        self._commands.append(
            Record(
                outcome,
                reason,
                detail,
                peer=self._peer_name(),
                proven=self._accepted,
                jti=self._jti,
                seconds=self._now - self._since,
                from_peer=self.from_peer,
                to_peer=self.to_peer,
            )
        )

    def _on_deadline(self) -> None:
        if self._channel is not None:
            self._heard(self._channel.tick(self._now))
        if self.stage is not Stage.CLOSED and _due(self._idle_at(), self._now):
            self._end(End.IDLE)
        if self.stage is not Stage.CLOSED and _due(self._ask_at(), self._now):
            self._asked = self._now
            self._commands.append(AskAuthnode())
        if self.stage is not Stage.CLOSED and _due(self._own_deadline(), self._now):
            self._on_own_deadline()

    def _idle_at(self) -> float | None:
        idle = self._rules.idle
        return self._active + idle if idle is not None and self._accepted else None

    def _ask_at(self) -> float | None:
        """Grace hangs on our own last try, so there must be one when a ticket ends."""
        if not self._accepted or self._rules.mode is Mode.CLEAR or not self._rules.grace:
            return None
        return max(self._open_channel.exp - ASK_AHEAD, self._asked + ASK_EVERY)


def _due(time: float | None, now: float) -> bool:
    return time is not None and now >= time
