"""Who may make an admin request: the whole of it, in one place (protocol-v1, sections 4 and 11).

A ticket of ours that opens, for AuthService, of the client that asks; a fresh
verifier under its session key; a key that is alive and still the one the
ticket was issued to; the capability, in the ticket and held now.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cubeauth import caps, exchange, ids, ticket, verifier
from cubeauth.caps import Capabilities
from cubeauth.errors import AuthenticationFailed, CapabilityMissing, InputError, MalformedMessage, Reason, TicketInvalid
from cubeauth.keys import KeyRecord
from cubeauth.messages import AdminRoute
from cubeauth_authnode.directory import Directory
from cubeauth_authnode.proof import ProofChecker


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as proven. capabilities: those of the ticket that the key still holds."""

    id: str
    session_key: bytes = field(repr=False)
    proof: verifier.Verifier
    in_ticket: Capabilities
    now_held: Capabilities

    def may(self, capability: str) -> bool:
        return self.in_ticket.allows(capability) and self.now_held.allows(capability)


class Authority:
    """Decides about callers from the keys in `directory`."""

    def __init__(self, directory: Directory, auth_service: KeyRecord, proofs: ProofChecker) -> None:
        self._directory = directory
        self._auth_service = auth_service
        self._proofs = proofs

    def authorize(self, request: exchange.AccessRequest, route: AdminRoute, now: float) -> Caller:
        """Who asks, and that it may. Raises AuthenticationFailed, TicketExpired, TicketInvalid, CapabilityMissing."""
        client_id = request.unverified_client_id
        try:
            opened = ticket.open_(self._auth_service.auth_key.reveal(), request.ticket)
            ticket.check(opened, service_id=ids.AUTH_SERVICE, client_id=client_id)
            if request.service_id != ids.AUTH_SERVICE:
                raise AuthenticationFailed("another service", reason=Reason.OTHER_SERVICE)
            in_ticket = caps.parse(opened.caps).capabilities
        except (AuthenticationFailed, MalformedMessage, InputError) as e:
            self._proofs.waste_opening(request.unverified_proof)
            known = isinstance(e, AuthenticationFailed) and e.reason is not Reason.BAD_ENVELOPE
            raise e if known else AuthenticationFailed("no ticket of ours", reason=Reason.BAD_TICKET) from None
        session_key = opened.session_key.reveal()
        proof = self._proofs.check(
            session_key, client_id, request.unverified_proof, body=request.unverified_body, holder=request.holder, now=now
        )
        ticket.check_lifetime(opened, now=now)
        record = self._find(client_id)
        if record is None or record.kvno != opened.kvno:
            raise TicketInvalid("the ticket's key was deleted")
        caller = Caller(client_id, session_key, proof, in_ticket, caps.parse(record.caps).capabilities)
        if not caller.may(route.capability):
            raise CapabilityMissing(f"no capability {route.capability}")
        return caller

    def _find(self, principal: str) -> KeyRecord | None:
        return self._auth_service if principal == ids.AUTH_SERVICE else self._directory.get(principal)
