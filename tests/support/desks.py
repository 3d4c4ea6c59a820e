"""The Authnode's desks without its processes: keys in a ledger, a replay memory that is a set, real requests."""

from __future__ import annotations

from typing import Any

from cubeauth import entropy, exchange, ticket
from cubeauth.caps import Capabilities
from cubeauth.errors import ReplayDetected
from cubeauth.exchange import TicketGrant
from cubeauth.ids import AUTH_SERVICE, Role
from cubeauth.keys import KeyRecord
from cubeauth.messages import ROUTE_OF_WORD
from cubeauth.secret import SecretBytes
from cubeauth_authnode.admin import AdminDesk, Facts
from cubeauth_authnode.authority import Authority
from cubeauth_authnode.directory import Directory
from cubeauth_authnode.keystore.base import Change, CreateKey, DeleteKey, KeystoreError, Write
from cubeauth_authnode.keystore.ledger import Floors, Ledger, plan
from cubeauth_authnode.proof import Policy, ProofChecker, auth_service_record
from cubeauth_authnode.tickets import TicketDesk

NOW = 1_800_000_000
SERVICE_KEY = SecretBytes(bytes(range(100, 132)))
POLICY = Policy(lifetime=3600, skew=10, require_bound=frozenset())


class ReplaySet:
    """What the shared table does, without its bounds."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()

    def remember(self, key: bytes, *, proof_time: int, now: float) -> None:
        if key in self.seen:
            raise ReplayDetected("proof seen before")
        self.seen.add(key)


class World:
    """One directory with both desks over it. failure: what the next write of `submit` raises instead."""

    def __init__(self, policy: Policy = POLICY) -> None:
        self.ledger = Ledger()
        self.directory = Directory((), 0)
        self.replay = ReplaySet()
        self.proofs = ProofChecker(self.replay, policy, entropy.system)
        self.auth_service = auth_service_record(SERVICE_KEY)
        self.tickets = TicketDesk(self.directory, self.auth_service, self.proofs, policy, entropy.system)
        self.authority = Authority(self.directory, self.auth_service, self.proofs)
        self.admin = AdminDesk(self.directory, self.authority, self.submit, Facts("k" * 32, "1.2.3"), entropy.system)
        self.failure: KeystoreError | None = None

    def write(self, write: Write) -> Change:
        planned = plan(self.ledger, [write], sequence=self.directory.sequence, floors=Floors(), now=NOW, entropy=entropy.system)
        (outcome,) = planned.outcomes
        if isinstance(outcome, KeystoreError):
            raise outcome
        self.ledger.merge([entry for entry, _ in planned.changed.values()])
        self.directory.apply(outcome)
        return outcome

    async def submit(self, write: Write) -> Change:
        if self.failure is not None:
            raise self.failure
        return self.write(write)

    def create(self, principal: str, role: Role = Role.CLIENT, *api: str, owner_vol: tuple[str, ...] = ()) -> KeyRecord:
        return self.write(CreateKey(principal, role, Capabilities(api, owner_vol))).record

    def delete(self, principal: str) -> None:
        self.write(DeleteKey(principal))

    def grant(self, record: KeyRecord, service: str = AUTH_SERVICE, *, now: float = NOW) -> TicketGrant:
        """A real ticket, through the desk."""
        sent = exchange.ask_ticket(record.id, record.auth_key, service, now=now, entropy=entropy.system)
        request = exchange.parse_ticket_request(sent.body)
        granted = self.tickets.issue(self.tickets.prove(request, now), "192.0.2.1", now)
        return exchange.accept_ticket(sent, granted.reply.encode())

    def forge(self, client: str, **changes: Any) -> TicketGrant:
        """A ticket as only the holder of the AuthService key can make it, with `changes` to a good one."""
        record = self.directory.get(client) or self.auth_service
        members: dict[str, Any] = {
            "service_id": AUTH_SERVICE,
            "session_key": SecretBytes(b"a session key of 32 random bytes"),
            "c_time": NOW,
            "exp": NOW + 3600,
            "ip": "192.0.2.1",
            "caps": record.caps,
            "client_id": client,
            "jti": "0" * 32,
            "kvno": record.kvno,
        }
        made = ticket.Ticket(**(members | changes))
        sealed = ticket.seal(SERVICE_KEY.reveal(), made, entropy.system)
        return TicketGrant(client, AUTH_SERVICE, sealed, made.session_key, made.c_time, made.exp)

    async def ask(self, grant: TicketGrant, word: str, payload: dict[str, Any], *, now: float = NOW) -> dict[str, Any]:
        """An admin request and its opened reply. Raises what the desk raises."""
        route = ROUTE_OF_WORD[word]
        sent = exchange.ask_access(grant, route.type, {route.payload: payload}, now=now, entropy=entropy.system)
        done = await self.admin.answer(route, sent.body, now)
        return exchange.accept_access(sent, done.reply.encode())
