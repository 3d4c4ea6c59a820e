"""Administration of an Authnode, on a ticket for AuthService (protocol-v1, section 4 and section 11 rule 13)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from cubeauth import exchange, ids, messages, strictjson
from cubeauth.caps import Capabilities
from cubeauth.errors import CODE_EXPIRED_TICKET, CODE_INVALID_TICKET
from cubeauth.exchange import TicketGrant
from cubeauth_client import replies
from cubeauth_client.authnode import Authnode, Exchange
from cubeauth_client.errors import AuthnodeRefused
from cubeauth_client.replies import AccessKeyCaps, KeyInfo, KeyPage, State
from cubeauth_client.tickets import TicketSource

T = TypeVar("T")

MAX_PAGE = 1000
"""Keys of one page of the list; the Authnode gives no more."""

_RENEW = frozenset({CODE_INVALID_TICKET, CODE_EXPIRED_TICKET})
_ONCE = frozenset({"createkey", "deletekey"})
"""Carried out twice, the second is refused, and what the first gave is lost."""


def key_payload(principal: str, *, role: str = "", caps: str | None = None) -> dict[str, Any]:
    """The key_info of a request, every member that stock's own tool sends. caps: JSON text."""
    return {
        "id": principal,
        "auth_key": None,
        "access_key": "",
        "secret_key": "",
        "create_ts": 0,
        "role": role,
        "caps": None if caps is None else strictjson.b64encode(caps.encode("utf-8")),
    }


def access_key_payload(access_key: str, *, caps: str | None = None) -> dict[str, Any]:
    """The access_key_caps of a request, as stock's own tool sends it."""
    text = None if caps is None else strictjson.b64encode(caps.encode("utf-8"))
    return {"access_key": access_key, "secret_key": "", "caps": text, "user_id": ""}


class AdminClient:
    """Asks on tickets of `tickets`; one that has expired or was refused as such is renewed once per request.

    Every method raises AuthnodeRefused, AuthnodeUnreachable, TicketUnavailable; those of `/cubeauth/v1/` NotSupported too.
    """

    def __init__(self, authnode: Authnode, tickets: TicketSource) -> None:
        self._authnode = authnode
        self._tickets = tickets

    async def create_key(self, principal: str, role: ids.Role, caps: str) -> KeyInfo:
        """caps: the list's JSON text. The only reply that is sure to hold the new key is this one: keep it."""
        return await self._key("createkey", key_payload(principal, role=role.value, caps=caps))

    async def delete_key(self, principal: str) -> KeyInfo:
        return await self._key("deletekey", key_payload(principal))

    async def get_key(self, principal: str) -> KeyInfo:
        return await self._key("getkey", key_payload(principal))

    async def add_caps(self, principal: str, caps: str) -> KeyInfo:
        return await self._key("addcaps", key_payload(principal, caps=caps))

    async def delete_caps(self, principal: str, caps: str) -> KeyInfo:
        return await self._key("deletecaps", key_payload(principal, caps=caps))

    async def get_caps(self, principal: str) -> KeyInfo:
        """Stock tells secret_key here too; neither tells auth_key."""
        return await self._key("getcaps", key_payload(principal))

    async def set_caps(self, principal: str, caps: Capabilities) -> KeyInfo:
        """Exactly these capabilities, in one atomic write; not at a stock Authnode."""
        text = strictjson.b64encode(caps.to_json().encode("utf-8"))
        return await self._key("setcaps", {"id": principal, "caps": text})

    async def add_raft_node(self, node: int, address: str) -> str:
        """The server's own words about it."""
        return await self._request("addraftnode", {"id": node, "addr": address}, _message)

    async def remove_raft_node(self, node: int, address: str) -> str:
        return await self._request("removeraftnode", {"id": node, "addr": address}, _message)

    async def os_add_caps(self, access_key: str, caps: str) -> AccessKeyCaps:
        return await self._access_key("osaddcaps", access_key_payload(access_key, caps=caps))

    async def os_delete_caps(self, access_key: str, caps: str) -> AccessKeyCaps:
        return await self._access_key("osdeletecaps", access_key_payload(access_key, caps=caps))

    async def os_get_caps(self, access_key: str) -> AccessKeyCaps:
        return await self._access_key("osgetcaps", access_key_payload(access_key))

    async def state(self) -> State:
        """Keystore id and write sequence; not at a stock Authnode."""
        return await self._request("state", {}, replies.parse_state)

    async def key_page(self, after: str = "", limit: int = MAX_PAGE) -> KeyPage:
        """At most `limit` keys whose ids come behind `after`; not at a stock Authnode."""
        return await self._request("listkeys", {"after": after, "limit": limit}, lambda m: replies.parse_key_page(m, after))

    async def list_keys(self, limit: int = MAX_PAGE) -> AsyncIterator[KeyInfo]:
        """Every key, by id, `limit` at a time; one made or deleted meanwhile may be in it or not."""
        page = await self.key_page("", limit)
        while True:
            for key in page.keys:
                yield key
            if not page.next:
                return
            page = await self.key_page(page.next, limit)

    async def _key(self, word: str, payload: dict[str, Any]) -> KeyInfo:
        return await self._request(word, payload, lambda m: replies.parse_key_info(m, payload["id"]))

    async def _access_key(self, word: str, payload: dict[str, Any]) -> AccessKeyCaps:
        return await self._request(word, payload, lambda m: replies.parse_access_key_caps(m, payload["access_key"]))

    async def _request(self, word: str, payload: dict[str, Any], read: Callable[[dict[str, Any]], T]) -> T:
        grant = await self._tickets.get(ids.AUTH_SERVICE)
        try:
            return await self._once(word, grant, payload, read)
        except AuthnodeRefused as e:
            if e.code not in _RENEW or not self._tickets.discard(grant):
                raise
        return await self._once(word, await self._tickets.get(ids.AUTH_SERVICE), payload, read)

    async def _once(self, word: str, grant: TicketGrant, payload: dict[str, Any], read: Callable[[dict[str, Any]], T]) -> T:
        route = messages.ROUTE_OF_WORD[word]
        body = {route.payload: payload}
        entropy = self._authnode.entropy
        return await self._authnode.call(
            Exchange(
                route.path,
                lambda now: exchange.ask_access(grant, route.type, body, now=now, entropy=entropy),
                lambda sent, reply: read(exchange.accept_access(sent, reply)),
                repeatable=word not in _ONCE,
            )
        )


def _message(members: dict[str, Any]) -> str:
    return " ".join(strictjson.text_member(members, "msg").split())
