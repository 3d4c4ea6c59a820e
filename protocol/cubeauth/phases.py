"""Which frame is legal in which phase of a connection, and what follows (protocol-v1, section 7), as data.

        client                                  server
        IDLE                                    AWAIT_TICKET
          | start: TICKET ->                      | <- TICKET, CHALLENGE ->
        AWAIT_CHALLENGE                         AWAIT_RESPONSE
          | <- CHALLENGE, RESPONSE ->             | <- RESPONSE, CONFIRM and a first record ->
        AWAIT_CONFIRM                           AWAIT_RECORD
          | <- CONFIRM, a first record ->         | <- the client's first record: complete
        AWAIT_RECORD                            OPEN (sealed), RAW (clear)
          | <- the server's first record: complete
        OPEN (sealed), RAW (clear)

A frame that the table does not have is out of place, and ends the connection.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum

from cubeauth.frames import FrameType


class Mode(Enum):
    """What follows the handshake; each side's configuration, never negotiated."""

    SEALED = "sealed"
    CLEAR = "clear"


class Role(Enum):
    CLIENT = "client"
    SERVER = "server"


class Phase(StrEnum):
    IDLE = "idle"
    AWAIT_TICKET = "await_ticket"
    AWAIT_CHALLENGE = "await_challenge"
    AWAIT_RESPONSE = "await_response"
    AWAIT_CONFIRM = "await_confirm"
    AWAIT_RECORD = "await_record"
    OPEN = "open"
    RAW = "raw"
    PEER_CLOSED = "peer_closed"
    FAILED = "failed"


HANDSHAKING = frozenset(
    {Phase.IDLE, Phase.AWAIT_TICKET, Phase.AWAIT_CHALLENGE, Phase.AWAIT_RESPONSE, Phase.AWAIT_CONFIRM, Phase.AWAIT_RECORD}
)
"""Nothing is reported, dialed or delivered in these; all of them together have one deadline."""


class Form(Enum):
    """How a frame's payload travels."""

    PLAIN = "plain"
    SEALED = "sealed"
    EITHER = "either"


@dataclass(frozen=True, slots=True)
class Step:
    """A legal frame: its form, and the phase after it (None: the handler decides)."""

    form: Form
    after: Phase | None


_PLAIN_ERROR = Step(Form.PLAIN, Phase.FAILED)
_SEALED_ERROR = Step(Form.SEALED, Phase.FAILED)

STEPS: dict[tuple[Role, Phase, FrameType], Step] = {
    (Role.SERVER, Phase.AWAIT_TICKET, FrameType.TICKET): Step(Form.PLAIN, Phase.AWAIT_RESPONSE),
    (Role.SERVER, Phase.AWAIT_RESPONSE, FrameType.RESPONSE): Step(Form.PLAIN, Phase.AWAIT_RECORD),
    (Role.SERVER, Phase.AWAIT_RESPONSE, FrameType.ERROR): _PLAIN_ERROR,
    (Role.SERVER, Phase.AWAIT_RECORD, FrameType.DATA): Step(Form.SEALED, None),
    # A client that refuses our CONFIRM has no keys to seal its ERROR with; one that refuses our first record has.
    (Role.SERVER, Phase.AWAIT_RECORD, FrameType.ERROR): Step(Form.EITHER, Phase.FAILED),
    (Role.SERVER, Phase.OPEN, FrameType.DATA): Step(Form.SEALED, Phase.OPEN),
    (Role.SERVER, Phase.OPEN, FrameType.RENEW): Step(Form.SEALED, Phase.OPEN),
    (Role.SERVER, Phase.OPEN, FrameType.CLOSE): Step(Form.SEALED, Phase.PEER_CLOSED),
    (Role.SERVER, Phase.OPEN, FrameType.ERROR): _SEALED_ERROR,
    (Role.CLIENT, Phase.AWAIT_CHALLENGE, FrameType.CHALLENGE): Step(Form.PLAIN, Phase.AWAIT_CONFIRM),
    (Role.CLIENT, Phase.AWAIT_CHALLENGE, FrameType.ERROR): _PLAIN_ERROR,
    (Role.CLIENT, Phase.AWAIT_CONFIRM, FrameType.CONFIRM): Step(Form.PLAIN, Phase.AWAIT_RECORD),
    (Role.CLIENT, Phase.AWAIT_CONFIRM, FrameType.ERROR): _PLAIN_ERROR,
    (Role.CLIENT, Phase.AWAIT_RECORD, FrameType.DATA): Step(Form.SEALED, None),
    (Role.CLIENT, Phase.AWAIT_RECORD, FrameType.ERROR): _SEALED_ERROR,
    (Role.CLIENT, Phase.OPEN, FrameType.DATA): Step(Form.SEALED, Phase.OPEN),
    (Role.CLIENT, Phase.OPEN, FrameType.CLOSE): Step(Form.SEALED, Phase.PEER_CLOSED),
    (Role.CLIENT, Phase.OPEN, FrameType.ERROR): _SEALED_ERROR,
}
