"""F1 at the server: who proves to hold a key gets a ticket (protocol-v1, section 3).

In two steps, because a write may come between them: `prove` opens the
verifier and uses it up; `issue` looks the keys up and seals. A worker that
finds the keystore moved meanwhile issues again from the newer state.
"""

from __future__ import annotations

from dataclasses import dataclass

from cubeauth import exchange, ids, ticket, verifier
from cubeauth.entropy import Entropy
from cubeauth.errors import AuthenticationFailed, Reason, RequestInvalid
from cubeauth.keys import KeyRecord
from cubeauth.secret import SecretBytes
from cubeauth_authnode.directory import Directory
from cubeauth_authnode.proof import Policy, ProofChecker

PREPARED_KEYS = 2048
"""Keys that are kept set up, 3 KiB each; a site with more busy clients than that pays for some again."""


@dataclass(slots=True)  # not frozen, as the values of the protocol core on this path
class Proven:
    """A ticket request whose sender holds the key `kvno` of `client_id`."""

    request: exchange.TicketRequest
    proof: verifier.Verifier
    client_id: str
    kvno: int


@dataclass(slots=True)  # not frozen, as the values of the protocol core on this path
class Granted:
    """A reply, and what the audit says of it."""

    reply: str
    client_id: str
    service_id: str
    jti: str


class TicketDesk:
    """Answers ticket requests from the keys in `directory`."""

    def __init__(
        self, directory: Directory, auth_service: KeyRecord, proofs: ProofChecker, policy: Policy, entropy: Entropy
    ) -> None:
        self.directory = directory
        self._auth_service = auth_service
        self._proofs = proofs
        self._policy = policy
        self._entropy = entropy
        self._keys: dict[tuple[str, int], exchange.PreparedKey] = {}

    def _prepared(self, record: KeyRecord) -> exchange.PreparedKey:
        """The record's key with its ciphers set up. Keyed by kvno too: a key made anew is another key."""
        name = (record.id, record.kvno)
        key = self._keys.get(name)
        if key is None:
            if len(self._keys) >= PREPARED_KEYS:
                self._keys.clear()
            key = self._keys[name] = exchange.prepared(record.auth_key)
        return key

    def _find(self, principal: str) -> KeyRecord | None:
        return self.directory.get(principal) or (self._auth_service if principal == ids.AUTH_SERVICE else None)

    def prove(self, request: exchange.TicketRequest, now: float) -> Proven:
        """Raises AuthenticationFailed; all its reasons look alike to the peer."""
        client_id, body = request.unverified_client_id, request.unverified_body
        record = self._find(client_id)
        set_up = record is not None and (record.id, record.kvno) not in self._keys
        key = self._prepared(record) if record else self._proofs.nobody
        try:
            proof = self._proofs.check(key, client_id, request.unverified_proof, body=body, holder=body, now=now)
        except AuthenticationFailed as e:
            if not set_up:  # else the time of a refusal would tell which ids exist
                self._proofs.waste_setting_up()
            raise e if record else AuthenticationFailed("no such client", reason=Reason.UNKNOWN_CLIENT) from None
        if record is None:
            raise AuthenticationFailed("no such client", reason=Reason.UNKNOWN_CLIENT)
        return Proven(request, proof, client_id, record.kvno)

    def issue(self, proven: Proven, peer: str, now: float) -> Granted:
        """Seal a ticket and the reply around it. peer: the validated address it is issued to.

        Raises AuthenticationFailed where the key is gone since `prove`, RequestInvalid for a service that is none.
        """
        client = self._find(proven.client_id)
        if client is None or client.kvno != proven.kvno:
            raise AuthenticationFailed("deleted meanwhile", reason=Reason.UNKNOWN_CLIENT)
        service = self._find(ids.canonical_service(proven.request.service_id))
        if service is None or service.role is not ids.Role.SERVICE:
            raise RequestInvalid("invalid service ID", reason=Reason.UNKNOWN_SERVICE)
        issued_at = int(now)
        chance = self._entropy(ticket.SESSION_KEY_BYTES + ticket.JTI_BYTES)
        issued = ticket.Ticket(
            service_id=service.id,
            session_key=SecretBytes(chance[: ticket.SESSION_KEY_BYTES]),
            c_time=issued_at,
            exp=issued_at + self._policy.lifetime,
            ip=peer,
            caps=client.caps,
            client_id=client.id,
            jti=chance[ticket.SESSION_KEY_BYTES :].hex(),
            kvno=client.kvno,
        )
        sealed = ticket.seal(self._prepared(service), issued, self._entropy)
        reply = exchange.seal_ticket_reply(
            proven.request, proven.proof, issued, sealed, key=self._prepared(client), entropy=self._entropy
        )
        return Granted(reply, client.id, service.id, issued.jti)
