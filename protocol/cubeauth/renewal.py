"""RENEW: a fresh ticket for a channel that is open (protocol-v1, section 7)."""

from __future__ import annotations

import hmac

from cubeauth import strictjson
from cubeauth.admission import Acceptor, Admission, admit
from cubeauth.errors import AuthenticationFailed, InputError, MalformedMessage, Reason
from cubeauth.exchange import TicketGrant
from cubeauth.schedule import renewal_proof
from cubeauth.ticket import MAX_TICKET_TEXT

_MEMBERS = frozenset({"ticket", "proof"})


def request(grant: TicketGrant, transcript: bytes) -> bytes:
    """RENEW's plaintext for the channel whose handshake hashes to `transcript`. Raises InputError: no service opens it."""
    if len(grant.ticket) > MAX_TICKET_TEXT:
        problem = f"{len(grant.ticket)} bytes, at most {MAX_TICKET_TEXT}"
        raise InputError("ticket", problem, f"grant {grant.client_id} fewer capabilities")
    proof = renewal_proof(grant.session_key, transcript, grant.ticket)
    return strictjson.dumps({"ticket": grant.ticket, "proof": strictjson.b64encode(proof)}).encode("utf-8")


def accept(acceptor: Acceptor, plaintext: bytes, current: Admission, *, exp: float, transcript: bytes, now: float) -> Admission:
    """Judge a RENEW as a TICKET is judged, and more: the same client, a later end than `exp`, the proof.

    Raises a PeerError whose reason says which rule it broke.
    """
    members = strictjson.load_object(plaintext)
    if members.keys() != _MEMBERS:
        raise MalformedMessage("RENEW: members")
    text = strictjson.text_member(members, "ticket")
    proof = strictjson.b64decode(strictjson.text_member(members, "proof"))
    fresh = admit(acceptor, text, client_id=current.client_id, now=now)
    if not hmac.compare_digest(proof, renewal_proof(fresh.session_key, transcript, text)):
        raise AuthenticationFailed("RENEW: proof", reason=Reason.BAD_RENEWAL)
    if fresh.exp <= exp:
        raise AuthenticationFailed(f"RENEW: exp {fresh.exp} is not later", reason=Reason.BAD_RENEWAL)
    return fresh
