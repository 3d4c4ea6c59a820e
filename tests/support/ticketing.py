"""Values that the tests of the protocol core share, and the smallest server that can be made of its half."""

from __future__ import annotations

import dataclasses
from typing import Any

from cubeauth import exchange, messages, ticket, verifier
from cubeauth.entropy import Entropy, system
from cubeauth.ids import AUTH_SERVICE, MASTER_SERVICE, Role
from cubeauth.keys import KeyRecord
from cubeauth.secret import SecretBytes

NOW = 1_800_000_000
CLIENT, CLIENT_KEY = "ltptest", SecretBytes(bytes(range(32)))
SERVICE_KEY = SecretBytes(bytes(range(100, 132)))
OTHER_KEY = SecretBytes(bytes(range(200, 232)))
SESSION_KEY = SecretBytes(b"a session key of 32 random bytes")
CAPS = '{"API":["master:getvol:access"],"OwnerVOL":[],"NoneOwnerVOL":[]}'

TICKET = ticket.Ticket(MASTER_SERVICE, SESSION_KEY, NOW, NOW + 3600, "10.0.0.1", CAPS, CLIENT, "0123456789abcdef" * 2, 7)
RECORD = KeyRecord(CLIENT, 7, Role.CLIENT, CLIENT_KEY, "A" * 16, SecretBytes(b"secret of access key, 32 letters"), NOW, CAPS)


def ask_ticket(service_id: str = MASTER_SERVICE, *, now: float = NOW, key: SecretBytes = CLIENT_KEY) -> exchange.Sent:
    return exchange.ask_ticket(CLIENT, key, service_id, now=now, entropy=system)


def prove_ticket_request(
    form: bytes, *, now: float = NOW, key: SecretBytes = CLIENT_KEY
) -> tuple[exchange.TicketRequest, verifier.Verifier]:
    """What a server does with a ticket request before it seals: parse, open, check skew and binding."""
    request = exchange.parse_ticket_request(form)
    proof = verifier.open_(key.reveal(), request.unverified_proof)
    verifier.check(proof, now=now)
    exchange.check_binding(proof, request.unverified_body, request.unverified_body)
    return request, proof


def answer_ticket(form: bytes, issued: ticket.Ticket = TICKET, *, now: float = NOW, entropy: Entropy = system) -> bytes:
    """A good reply to a good ticket request."""
    request, proof = prove_ticket_request(form, now=now)
    text = ticket.seal(SERVICE_KEY.reveal(), issued, entropy)
    return exchange.seal_ticket_reply(request, proof, issued, text, key=CLIENT_KEY.reveal(), entropy=entropy).encode("ascii")


def a_grant(**changes: Any) -> exchange.TicketGrant:
    """What CLIENT holds for the Authnode itself, with a real ticket."""
    issued = dataclasses.replace(TICKET, service_id=AUTH_SERVICE, **changes)
    text = ticket.seal(SERVICE_KEY.reveal(), issued, system)
    return exchange.TicketGrant(CLIENT, AUTH_SERVICE, text, issued.session_key, issued.c_time, issued.exp)


def prove_access_request(
    form: bytes, route: messages.AdminRoute, *, now: float = NOW
) -> tuple[exchange.AccessRequest, verifier.Verifier, ticket.Ticket]:
    """What a server does with an admin request before its policy: parse, open ticket and verifier, check both."""
    request = exchange.parse_access_request(form, route)
    opened = ticket.open_(SERVICE_KEY.reveal(), request.ticket)
    ticket.check(opened, service_id=AUTH_SERVICE, client_id=request.unverified_client_id)
    proof = verifier.open_(opened.session_key.reveal(), request.unverified_proof)
    verifier.check(proof, now=now)
    exchange.check_binding(proof, request.unverified_body, request.holder)
    ticket.check_lifetime(opened, now=now)
    return request, proof, opened
