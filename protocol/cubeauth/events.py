"""What a channel reports, in the past tense."""

from __future__ import annotations

from dataclasses import dataclass, field

from cubeauth.caps import Capabilities
from cubeauth.errors import ChannelError
from cubeauth.frames import Buffer


@dataclass(frozen=True, slots=True)
class HandshakeCompleted:
    """The peer showed that it holds the session key, over the very frames that we saw. Now dial, send, deliver.

    peer: the client's id at the server, the service's at the client. capabilities, jti: of the ticket, at the server only.
    exp: unix seconds, inf where a client does not know it.
    """

    peer: str
    capabilities: Capabilities | None
    exp: float
    jti: str = ""


@dataclass(frozen=True, slots=True)
class DataReceived:
    """Bytes of the peer. Sealed: bytes of their own, to keep. Clear: the very buffer that receive_data was given."""

    data: Buffer = field(repr=False)


@dataclass(frozen=True, slots=True)
class PeerClosed:
    """The peer sends nothing more (CLOSE, or in clear mode the end of its stream); our direction stays open."""


@dataclass(frozen=True, slots=True)
class Renewed:
    """The server took a fresh ticket of the same client: its exp and capabilities hold from here on."""

    exp: float
    capabilities: Capabilities
    jti: str


@dataclass(frozen=True, slots=True)
class GraceStarted:
    """The ticket ended, the Authnode does not answer us: the channel lives on. Once for each ticket; to be counted."""

    exp: float


@dataclass(frozen=True, slots=True)
class ChannelFailed:
    """The channel is dead. What data_to_send still gives (an ERROR) is to be written, then the connection closed."""

    error: ChannelError


Event = HandshakeCompleted | DataReceived | PeerClosed | Renewed | GraceStarted | ChannelFailed
