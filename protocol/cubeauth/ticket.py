"""Tickets: what Authnode tells a service about a client, sealed with the service's key (protocol-v1, section 3).

Beside stock's members ours carry `client_id`, `jti` and `kvno` (section 11
rule 2), which stock peers ignore: without them nobody can tell whose a ticket
is, and a stolen one works under any name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from cubeauth import ids, strictjson
from cubeauth.compat import envelope
from cubeauth.entropy import Entropy
from cubeauth.errors import AuthenticationFailed, LocalMisuse, MalformedMessage, Reason, TicketExpired
from cubeauth.secret import SecretBytes

VERSION = 1
SESSION_KEY_BYTES = 32
JTI_BYTES = 16

STOCK_LIFETIME = 24 * 3600
"""Seconds; what a stock Authnode gives, and what its clients expect."""

MAX_TICKET_TEXT = 60 * 1024
"""Bytes of a ticket's text; the longest capability list we store fits, and F3's first frame of 64 KiB holds it."""


@dataclass(slots=True)  # not frozen: that costs a third of a microsecond a field, for every ticket
class Ticket:
    """An opened ticket.

    c_time, exp: unix seconds, of issue and end. caps: capability list JSON. client_id is "" and kvno 0 in a stock ticket.
    kvno: version of the client's key at issue. jti: 32 hexadecimal digits, one ticket's name in audit lines.
    """

    service_id: str
    session_key: SecretBytes = field(repr=False)
    c_time: int
    exp: int
    ip: str
    caps: str
    client_id: str = ""
    jti: str = ""
    kvno: int = 0


# Of ids, jti and ip together: what follows writes JSON itself, for speed. An
# IPv6 zone (fe80::1%eth0) may hold anything, a quote and members of its own.
_PLAIN = re.compile(r"[A-Za-z0-9_.:%-]*").fullmatch


def seal(service_key: envelope.Key, ticket: Ticket, entropy: Entropy) -> str:
    """The ticket's text. Raises LocalMisuse for an id, jti or ip with a letter that none of them has."""
    if not _PLAIN(ticket.service_id + ticket.client_id + ticket.jti + ticket.ip):
        raise LocalMisuse("an id, jti or ip that no ticket holds")
    key = strictjson.b64encode(ticket.session_key.reveal())
    caps = strictjson.b64encode(ticket.caps.encode("utf-8"))
    plain = (
        f'{{"version":{VERSION},"service_id":"{ticket.service_id}",'
        f'"session_key":{{"c_time":{ticket.c_time},"key":"{key}"}},"exp":{ticket.exp},"ip":"{ticket.ip}","caps":"{caps}",'
        f'"client_id":"{ticket.client_id}","jti":"{ticket.jti}","kvno":{ticket.kvno}}}'
    )
    return envelope.seal(service_key, plain.encode("utf-8"), entropy).decode("ascii")


def open_(service_key: envelope.Key, text: str) -> Ticket:
    """Open and parse; whose it is and whether it is still good, `check` and `check_lifetime` tell.

    Raises MalformedMessage, AuthenticationFailed.
    """
    if len(text) > MAX_TICKET_TEXT:
        raise MalformedMessage("ticket length", reason=Reason.BAD_TICKET)
    members = strictjson.load_object(envelope.open_(service_key, text))
    if strictjson.int_member(members, "version") != VERSION:
        raise MalformedMessage("ticket version", reason=Reason.BAD_TICKET)
    session = strictjson.object_member(members, "session_key")
    key = strictjson.b64decode(strictjson.text_member(session, "key"))
    if len(key) != SESSION_KEY_BYTES:
        raise MalformedMessage("session key length", reason=Reason.BAD_TICKET)
    kvno = strictjson.int_member(members, "kvno") if "kvno" in members else 0
    optional = {name: members.get(name, "") for name in ("client_id", "jti")}
    if not all(isinstance(value, str) for value in optional.values()):
        raise MalformedMessage("ticket members", reason=Reason.BAD_TICKET)
    return Ticket(
        service_id=strictjson.text_member(members, "service_id"),
        session_key=SecretBytes(key),
        c_time=strictjson.int_member(session, "c_time"),
        exp=strictjson.int_member(members, "exp"),
        ip=strictjson.text_member(members, "ip"),
        caps=_caps_text(strictjson.text_member(members, "caps")),
        kvno=kvno,
        **optional,
    )


def _caps_text(encoded: str) -> str:
    try:
        return strictjson.b64decode(encoded).decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedMessage("ticket capabilities: not text", reason=Reason.BAD_TICKET) from None


def check(ticket: Ticket, *, service_id: str, client_id: str) -> None:
    """Refuse a ticket of another service or client (section 11 rule 7). Raises AuthenticationFailed."""
    if ticket.service_id != service_id:
        raise AuthenticationFailed(f"ticket for {ticket.service_id!r}", reason=Reason.OTHER_SERVICE)
    if not ids.valid_id(ticket.client_id) or ticket.client_id != client_id:
        raise AuthenticationFailed("ticket of another client", reason=Reason.OTHER_CLIENT)


def check_lifetime(ticket: Ticket, *, now: float) -> None:
    """Refuse a ticket whose life is over. Raises TicketExpired."""
    if now >= ticket.exp:
        raise TicketExpired("expired ticket")
