"""What a relay wants done, in the imperative; to be carried out in order."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from cubeauth.errors import Reason
from cubeauth.frames import Buffer
from cubeauth_sidecar.events import Side


@dataclass(frozen=True, slots=True)
class FetchTicket:
    """Answer with TicketReady or TicketFailed."""


@dataclass(frozen=True, slots=True)
class AskAuthnode:
    """Find out whether the Authnode answers us now; no event comes back."""


@dataclass(frozen=True, slots=True)
class Dial:
    """Connect the other socket; answer with Dialed or DialFailed. What is sent there meanwhile waits for it."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Read nothing from this side until Release."""

    side: Side


@dataclass(frozen=True, slots=True)
class Release:
    side: Side


@dataclass(slots=True)  # not frozen: one is made for every read
class Send:
    """Write these, which are not touched any more. While they wait, reading from the other side stops."""

    side: Side
    buffers: list[Buffer] = field(repr=False)


@dataclass(frozen=True, slots=True)
class CloseWriting:
    """After what was sent before: nothing more comes (FIN)."""

    side: Side


@dataclass(frozen=True, slots=True)
class Close:
    """Write out what was sent, then close; nothing that still comes is read."""

    side: Side


@dataclass(frozen=True, slots=True)
class Reset:
    """Throw away what was not written and reset (RST); a dial under way is given up."""

    side: Side


class Outcome(StrEnum):
    """accepted: the handshake is complete. refused: it never will be, by a verdict. renewed, grace: on the way. closed: what was
    accepted ended as connections do. failed: any other end."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    FAILED = "failed"
    RENEWED = "renewed"
    GRACE = "grace"
    CLOSED = "closed"


class End(StrEnum):
    """Why a connection ended, beside the protocol's reasons."""

    COMPLETE = "complete"
    PEER_LOST = "peer_lost"
    DAEMON_LOST = "daemon_lost"
    PEER_DOWN = "peer_down"
    DAEMON_DOWN = "daemon_down"
    NO_TICKET_HELD = "no_ticket_held"
    TICKET_TOO_LARGE = "ticket_too_large"
    SLOW_START = "slow_start"
    IDLE = "idle"
    STOPPED = "stopped"


ORDERLY = frozenset({End.COMPLETE, End.PEER_LOST, End.DAEMON_LOST, End.IDLE, End.STOPPED})
"""Ends of an accepted connection in which nothing of ours went wrong."""


@dataclass(frozen=True, slots=True)
class Record:
    """Put on record: in metrics, and as an audit line where this side is the one that judges.

    reason: None where the outcome says it all. peer: an id, "" if not even claimed; proven: whether its handshake was good.
    jti: of the ticket in use, where we can see it. seconds: since the connection came. from_peer, to_peer: bytes, plaintext.
    """

    outcome: Outcome
    reason: Reason | End | None
    detail: str
    peer: str
    proven: bool
    jti: str
    seconds: float
    from_peer: int
    to_peer: int


Command = FetchTicket | AskAuthnode | Dial | Hold | Release | Send | CloseWriting | Close | Reset | Record
