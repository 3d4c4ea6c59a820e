"""Getting tickets (F1), and who else may give one."""

from __future__ import annotations

import asyncio
from typing import Protocol

from cubeauth import exchange, messages
from cubeauth.errors import LocalMisuse
from cubeauth.exchange import TicketGrant
from cubeauth.secret import SecretBytes
from cubeauth_client.authnode import Authnode, Exchange
from cubeauth_client.errors import TicketUnavailable

MAX_TICKET_REPLY = 2 * 1024 * 1024
"""Bytes of a reply to F1: the longest ticket, 512 KiB of text, sealed in base64, twice over."""


async def get_ticket(authnode: Authnode, client_id: str, key: SecretBytes, service_id: str) -> TicketGrant:
    """A ticket for `service_id`, good now by our clock.

    Raises AuthnodeRefused, AuthnodeUnreachable; TicketUnavailable for one that is over as it arrives.
    """
    grant = await authnode.call(
        Exchange(
            messages.TICKET_PATH,
            lambda now: exchange.ask_ticket(client_id, key, service_id, now=now, entropy=authnode.entropy),
            exchange.accept_ticket,
            max_reply=MAX_TICKET_REPLY,
        )
    )
    if grant.exp <= authnode.clock.now():
        raise TicketUnavailable(
            service_id, "the one that came has expired already: compare this host's clock with the Authnode's"
        )
    return grant


class TicketSource(Protocol):
    """Who gives a client its tickets."""

    async def get(self, service_id: str) -> TicketGrant:
        """A ticket that is good now."""
        ...

    def discard(self, grant: TicketGrant) -> bool:
        """A server refused `grant`. Whether the next get() will bring another."""
        ...


class GivenTicket:
    """One ticket from a file: it cannot be renewed, and whether it is still good the server says."""

    def __init__(self, grant: TicketGrant) -> None:
        self._grant = grant

    async def get(self, service_id: str) -> TicketGrant:
        if service_id != self._grant.service_id:
            raise TicketUnavailable(service_id, f"the one given is for {self._grant.service_id}")
        return self._grant

    def discard(self, grant: TicketGrant) -> bool:
        if grant is not self._grant:
            raise LocalMisuse("a ticket that was not given here")
        return False


class TicketsOnDemand:
    """Fetched with a key when first asked for and when expired, one at a time; for programs that end soon.

    A daemon takes TicketCache, which refreshes ahead.
    """

    def __init__(self, authnode: Authnode, client_id: str, key: SecretBytes) -> None:
        self._authnode = authnode
        self._client_id = client_id
        self._key = key
        self._held: dict[str, TicketGrant] = {}
        self._lock = asyncio.Lock()

    async def get(self, service_id: str) -> TicketGrant:
        async with self._lock:
            grant = self._held.get(service_id)
            if grant is None or grant.exp <= self._authnode.clock.now():
                grant = await get_ticket(self._authnode, self._client_id, self._key, service_id)
                self._held[service_id] = grant
            return grant

    def discard(self, grant: TicketGrant) -> bool:
        if self._held.get(grant.service_id) is grant:
            del self._held[grant.service_id]
        return True
