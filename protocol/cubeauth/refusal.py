"""ERROR: what one end tells the other before it closes (protocol-v1, sections 7 and 8)."""

from __future__ import annotations

from dataclasses import dataclass

from cubeauth import strictjson
from cubeauth.errors import AUTHENTICATION_FAILED, CODE_EXPIRED_TICKET, CODE_PARAMETER, MalformedMessage, Reason
from cubeauth.messages import one_line

_MEMBERS = frozenset({"code", "msg", "data"})


@dataclass(frozen=True, slots=True)
class Refusal:
    """The payload of ERROR. code: of section 8."""

    code: int
    text: str

    def payload(self) -> bytes:
        return strictjson.dumps({"code": self.code, "msg": self.text, "data": None}).encode("utf-8")


UNIFORM = Refusal(CODE_PARAMETER, AUTHENTICATION_FAILED)
"""For everything before the handshake is complete, an expired ticket too."""


def for_known_peer(reason: Reason) -> Refusal:
    """After that the peer is known and may be told: then it fetches a new ticket on 43."""
    return Refusal(CODE_EXPIRED_TICKET if reason is Reason.TICKET_EXPIRED else CODE_PARAMETER, reason.value)


MAX_CODE = (1 << 31) - 1


def is_payload(payload: memoryview) -> bool:
    """Whether this reads as an unsealed ERROR; a sealed one never does."""
    try:
        parse(bytes(payload))
    except MalformedMessage:
        return False
    return True


def parse(payload: bytes) -> Refusal:
    """Raises MalformedMessage for anything but the three members. The text is made safe to print."""
    members = strictjson.load_object(payload)
    if members.keys() != _MEMBERS or members["data"] is not None:
        raise MalformedMessage("ERROR: members")
    code = strictjson.int_member(members, "code")
    if not 0 <= code <= MAX_CODE:
        raise MalformedMessage("ERROR: code")
    return Refusal(code, one_line(strictjson.text_member(members, "msg")))
