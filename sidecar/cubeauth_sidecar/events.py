"""What happens to a connection, as its relay is told: in the past tense."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from cubeauth.exchange import TicketGrant
from cubeauth.frames import Buffer


class Side(StrEnum):
    """The two sockets of a connection: the secured one to the other sidecar, and the plain one to the local process."""

    PEER = "peer"
    DAEMON = "daemon"

    @property
    def other(self) -> Side:
        return Side.DAEMON if self is Side.PEER else Side.PEER


@dataclass(frozen=True, slots=True)
class Accepted:
    """The socket that came in is there."""


@dataclass(frozen=True, slots=True)
class Dialed:
    """The socket that went out is connected."""


@dataclass(frozen=True, slots=True)
class DialFailed:
    problem: str


@dataclass(frozen=True, slots=True)
class TicketReady:
    """The newest ticket that we hold."""

    grant: TicketGrant


@dataclass(frozen=True, slots=True)
class TicketFailed:
    problem: str


@dataclass(slots=True)  # not frozen: one is made for every read
class Received:
    """Bytes of one side. data: good only until the relay returns; its memory is read into again."""

    side: Side
    data: Buffer = field(repr=False)


@dataclass(frozen=True, slots=True)
class EndOfStream:
    """One side sends nothing more; it may still read."""

    side: Side


@dataclass(frozen=True, slots=True)
class Lost:
    """One side is gone, both directions, without our doing: reset, or dead."""

    side: Side
    problem: str


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """The time that next_deadline gave has come."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """The process ends, and the time to finish in is over."""


Event = Accepted | Dialed | DialFailed | TicketReady | TicketFailed | Received | EndOfStream | Lost | DeadlinePassed | Stopped
