"""The request and reply of F1, of admin requests and of F2: both ends, as values (protocol-v1, sections 3, 4 and 6).

The client's half makes a request and, later, opens the reply to it; the
server's half parses a request, opens what proves it, and seals the reply.
What lies between parsing and sealing, keys, replay and policy, is the
Authnode's service.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cubeauth import ids, messages, strictjson, ticket, verifier
from cubeauth.compat import envelope
from cubeauth.entropy import Entropy
from cubeauth.errors import AuthenticationFailed, InputError, MalformedMessage, Reason, shown
from cubeauth.messages import MsgType
from cubeauth.secret import SecretBytes


def prepared(key: SecretBytes) -> envelope.EnvelopeKey:
    """A key set up for many envelopes; good wherever a key is taken."""
    return envelope.EnvelopeKey(key.reveal())


PreparedKey = envelope.EnvelopeKey


@dataclass(frozen=True, slots=True)
class TicketGrant:
    """What a client holds after F1: the ticket it cannot read, the session key, and until when both are good.

    c_time, exp: unix seconds. A stock reply does not say exp: then it is stock's 24 hours.
    """

    client_id: str
    service_id: str
    ticket: str = field(repr=False)
    session_key: SecretBytes = field(repr=False)
    c_time: int
    exp: int


@dataclass(frozen=True, slots=True)
class Sent:
    """A request on its way: `body` goes out; the rest is what the reply must fit."""

    body: bytes = field(repr=False)
    type: MsgType
    client_id: str
    service_id: str
    time: int
    key: SecretBytes = field(repr=False)


def _bind(members: dict[str, Any], holder: dict[str, Any], key: bytes, time: int, entropy: Entropy) -> None:
    """Put into `holder`, a part of `members`, the verifier that is bound to the whole."""
    holder["verifier"] = ""
    holder["verifier"] = verifier.seal(key, time, entropy, body=strictjson.canonical(members))


def ask_ticket(client_id: str, key: SecretBytes, service_id: str, *, now: float, entropy: Entropy) -> Sent:
    """F1: `client_id` asks for a ticket for `service_id`."""
    time = int(now)
    members: dict[str, Any] = {"type": int(MsgType.GET_TICKET), "client_id": client_id, "service_id": service_id}
    _bind(members, members, key.reveal(), time, entropy)
    body = messages.encode_form(strictjson.dumps(members))
    return Sent(body, MsgType.GET_TICKET, client_id, service_id, time, key)


def accept_ticket(sent: Sent, reply: bytes) -> TicketGrant:
    """The ticket in a reply to `ask_ticket`.

    Raises ServerRefused, MalformedMessage, and AuthenticationFailed for what is not the server's reply to this request.
    """
    members = _open_reply(sent, messages.parse_reply(reply))
    _check_reply(sent, members)
    session = strictjson.object_member(members, "session_key")
    key = strictjson.b64decode(strictjson.text_member(session, "key"))
    if len(key) != ticket.SESSION_KEY_BYTES:
        raise MalformedMessage("session key length")
    c_time = strictjson.int_member(session, "c_time")
    exp = strictjson.int_member(members, "exp") if "exp" in members else c_time + ticket.STOCK_LIFETIME
    text = strictjson.text_member(members, "ticket")
    return TicketGrant(sent.client_id, sent.service_id, text, SecretBytes(key), c_time, exp)


def ask_access(grant: TicketGrant, kind: MsgType, payload: dict[str, Any] | None, *, now: float, entropy: Entropy) -> Sent:
    """A request under a ticket: an admin request with its payload member, or, payload None, F2's flat form."""
    time = int(now)
    access: dict[str, Any] = {
        "type": int(kind),
        "client_id": grant.client_id,
        "service_id": grant.service_id,
        "ticket": grant.ticket,
    }
    members = access if payload is None else {"api_req": access, **payload}
    _bind(members, access, grant.session_key.reveal(), time, entropy)
    return Sent(messages.encode_form(strictjson.dumps(members)), kind, grant.client_id, grant.service_id, time, grant.session_key)


def accept_access(sent: Sent, reply: bytes) -> dict[str, Any]:
    """The opened reply to `ask_access`, checked. Raises as accept_ticket."""
    members = _open_reply(sent, messages.parse_reply(reply))
    _check_reply(sent, strictjson.object_member(members, "api_resp"))
    return members


def _open_reply(sent: Sent, data: str) -> dict[str, Any]:
    return strictjson.load_object(envelope.open_(sent.key.reveal(), data))


def _check_reply(sent: Sent, members: dict[str, Any]) -> None:
    """The four things that show a reply belongs to our request (section 3)."""
    expected = {"type": sent.type + 1, "client_id": sent.client_id, "service_id": sent.service_id, "verifier": sent.time + 1}
    for name, value in expected.items():
        if members.get(name) != value or isinstance(members.get(name), bool):
            raise AuthenticationFailed(f"the reply's {name} does not fit the request", reason=Reason.OUT_OF_PLACE)


@dataclass(slots=True)  # not frozen: that costs a third of a microsecond a field, for every ticket
class TicketRequest:
    """F1 as parsed, nothing proven. unverified_body: all members, for a bound verifier."""

    unverified_client_id: str
    service_id: str
    unverified_proof: bytes = field(repr=False)
    unverified_body: dict[str, Any] = field(repr=False)


def _id_member(members: dict[str, Any], name: str) -> str:
    """A member that must be an id: nothing else gets as far as a log, a keystore or the JSON of a reply."""
    value = strictjson.text_member(members, name)
    if not ids.valid_id(value):
        raise MalformedMessage(f"{name}: not an id")
    return value


def parse_ticket_request(form: bytes) -> TicketRequest:
    """Raises MalformedMessage, for an id that no principal has too.

    A type that is not the path's is refused (section 11 rule 8); members we do not know are not.
    """
    members = messages.decode_form(form)
    if strictjson.int_member(members, "type") != MsgType.GET_TICKET:
        raise MalformedMessage("type is not this path's")
    return TicketRequest(
        _id_member(members, "client_id"),
        _id_member(members, "service_id"),
        verifier.decode(strictjson.text_member(members, "verifier")),
        members,
    )


def check_binding(proof: verifier.Verifier, body: dict[str, Any], holder: dict[str, Any]) -> None:
    """Refuse a bound verifier that was made for another body; `holder` is the part of `body` where the verifier stands."""
    if proof.body_hash is None:
        return
    held = holder["verifier"]
    holder["verifier"] = ""
    try:
        verifier.check_binding(proof, strictjson.canonical(body))
    finally:
        holder["verifier"] = held


def seal_ticket_reply(
    request: TicketRequest, proof: verifier.Verifier, issued: ticket.Ticket, text: str, *, key: envelope.Key, entropy: Entropy
) -> str:
    """The whole reply body for F1, sealed with the client's `key`; `text` is the sealed `issued`. An alias is echoed as asked."""
    session_key = strictjson.b64encode(issued.session_key.reveal())
    plain = (
        f'{{"type":{MsgType.GET_TICKET + 1},"client_id":"{issued.client_id}","service_id":"{request.service_id}",'
        f'"verifier":{proof.time + 1},"ticket":"{text}",'
        f'"session_key":{{"c_time":{issued.c_time},"key":"{session_key}"}},"exp":{issued.exp}}}'
    )
    return messages.success(envelope.seal(key, plain.encode("ascii"), entropy).decode("ascii"))


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """An admin request as parsed, nothing proven. payload: the member that the route names, an object."""

    type: int
    unverified_client_id: str
    service_id: str
    unverified_proof: bytes = field(repr=False)
    ticket: str = field(repr=False)
    payload: dict[str, Any] = field(repr=False)
    unverified_body: dict[str, Any] = field(repr=False)
    holder: dict[str, Any] = field(repr=False)


def parse_access_request(form: bytes, route: messages.AdminRoute) -> AccessRequest:
    """Raises MalformedMessage, as parse_ticket_request; a type that is not the route's is refused (section 11 rule 8)."""
    body = messages.decode_form(form)
    access = strictjson.object_member(body, "api_req")
    if strictjson.int_member(access, "type") != route.type:
        raise MalformedMessage("type is not this path's")
    return AccessRequest(
        route.type,
        _id_member(access, "client_id"),
        _id_member(access, "service_id"),
        verifier.decode(strictjson.text_member(access, "verifier")),
        strictjson.text_member(access, "ticket"),
        strictjson.object_member(body, route.payload),
        body,
        access,
    )


def seal_access_reply(
    request: AccessRequest, session_key: bytes, proof: verifier.Verifier, payload: dict[str, Any], entropy: Entropy
) -> str:
    """The whole reply body for an admin request."""
    response = {
        "type": request.type + 1,
        "client_id": request.unverified_client_id,
        "service_id": request.service_id,
        "verifier": proof.time + 1,
    }
    plain = strictjson.dumps({"api_resp": response, **payload})
    return messages.success(envelope.seal(session_key, plain.encode("utf-8"), entropy).decode("ascii"))


def parse_ticket_file(text: str | bytes) -> TicketGrant:
    """A ticket file as cfs-authtool writes it (section 9); it does not say exp, which counts as 0.

    Raises InputError naming the member.
    """
    try:
        members = strictjson.load_object(text)
    except MalformedMessage as e:
        raise InputError("", e.detail, "a ticket file is what `authtool ticket` wrote") from None
    values: dict[str, str] = {}
    for name in ("id", "session_key", "service_id", "ticket"):
        value = members.get(name)
        if not isinstance(value, str) or not value:
            raise InputError(name, "missing or not a string", "make the file anew with `authtool ticket`")
        values[name] = value
    if not ids.valid_id(values["id"]):
        raise InputError("id", f"{shown(values['id'], ids.MAX_SHOWN_ID)} is not an id", f"an id has {ids.ID_RULE}")
    try:
        key = strictjson.b64decode(values["session_key"])
    except MalformedMessage:
        key = b""
    if len(key) != ticket.SESSION_KEY_BYTES:
        raise InputError("session_key", "not 32 bytes in base64", "make the file anew with `authtool ticket`")
    return TicketGrant(values["id"], values["service_id"], values["ticket"], SecretBytes(key), 0, 0)


def ticket_file(grant: TicketGrant) -> str:
    """The text of a ticket file, members as the stock tool orders and indents them."""
    members = {
        "id": grant.client_id,
        "session_key": strictjson.b64encode(grant.session_key.reveal()),
        "service_id": grant.service_id,
        "ticket": grant.ticket,
    }
    return strictjson.dumps_indented(members)
