"""A stand-in for an Authnode, for tests that must inject faults: drops, delays, HTTP errors, huge, wrong or foreign replies.

It is NOT the Authnode: keys lie in a dictionary, and of the rules only those are kept that a client can feel (a verifier is good
once; capabilities are checked; a stock one drops the connection on a wrong key). What it says on the wire is made by the server
half of the protocol core. Tests of the whole use the real Authnode process.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web

from cubeauth import caps, entropy, exchange, ids, keys, messages, strictjson, ticket, verifier
from cubeauth.compat import envelope
from cubeauth.errors import (
    AuthenticationFailed,
    CapabilityMissing,
    KeyRequestRefused,
    MalformedMessage,
    PeerError,
    ReplayDetected,
    RequestInvalid,
    ServerRefused,
    TicketInvalid,
)
from cubeauth.keys import KeyRecord
from cubeauth.messages import AdminRoute
from cubeauth.secret import SecretBytes
from cubeauth_runtime.clock import Clock, SystemClock

FULL = '{"API":["*:*:*"]}'

Fault = Callable[["FakeAuthnode", web.Request], Any]
"""Instead of an answer: an awaitable of a response, or of None to go on as if nothing were."""


async def drop(_fake: FakeAuthnode, request: web.Request) -> web.Response:
    """Close the connection without a reply, as stock does for a wrong key."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def drop_gently(_fake: FakeAuthnode, request: web.Request) -> web.Response:
    """The same with FIN in place of RST."""
    assert request.transport is not None
    request.transport.close()
    return web.Response()


async def silence(_fake: FakeAuthnode, _request: web.Request) -> web.Response:
    """Never answer."""
    await asyncio.Event().wait()
    return web.Response()


async def carry_out_then_drop(fake: FakeAuthnode, request: web.Request) -> web.Response:
    """The request takes effect, its reply is lost."""
    await fake.answer(request)
    return await drop(fake, request)


async def foreign_reply(fake: FakeAuthnode, request: web.Request) -> web.Response:
    """The good reply to the request before this one."""
    assert fake.replies, "no reply before this one"
    return web.Response(text=fake.replies[-1], content_type="application/json")


def status(code: int) -> Fault:
    async def fault(_fake: FakeAuthnode, _request: web.Request) -> web.Response:
        return web.Response(status=code, text="no")

    return fault


def redirect(to: str) -> Fault:
    async def fault(_fake: FakeAuthnode, _request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": to})

    return fault


def body(text: str, **headers: str) -> Fault:
    async def fault(_fake: FakeAuthnode, _request: web.Request) -> web.Response:
        return web.Response(text=text, headers=headers)

    return fault


def refuse(code: int, text: str) -> Fault:
    return body(strictjson.dumps({"code": code, "msg": text, "data": None}))


def hold(gate: asyncio.Event) -> Fault:
    """Answer once `gate` is set."""

    async def fault(_fake: FakeAuthnode, _request: web.Request) -> None:
        await gate.wait()

    return fault


def record(principal: str, *, capabilities: str = FULL, role: ids.Role = ids.Role.CLIENT, key: bytes | None = None) -> KeyRecord:
    return KeyRecord(
        id=principal,
        kvno=1,
        role=role,
        auth_key=SecretBytes(key or entropy.system(keys.KEY_BYTES)),
        access_key=keys.random_letters(keys.ACCESS_KEY_LETTERS, entropy.system),
        secret_key=SecretBytes(keys.random_letters(keys.SECRET_KEY_LETTERS, entropy.system).encode()),
        create_ts=1_700_000_000,
        caps=capabilities,
    )


@dataclass
class FakeAuthnode:
    """`faults` are used up one a request; `always` stands when they are used up. `seen`: path and decoded request of each.

    stock: no exp in replies, no routes of ours, a wrong key drops the connection. prepared: what createkey makes of an id.
    """

    service_key: bytes
    stock: bool = False
    lifetime: int = 3600
    clock: Clock = field(default_factory=SystemClock)
    principals: dict[str, KeyRecord] = field(default_factory=dict)
    prepared: dict[str, KeyRecord] = field(default_factory=dict)
    faults: deque[Fault] = field(default_factory=deque)
    always: Fault | None = None
    seen: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    verifiers: set[bytes] = field(default_factory=set)
    replies: list[str] = field(default_factory=list)
    address: str = ""
    _runner: web.AppRunner | None = None

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        app = web.Application(client_max_size=messages.MAX_ADMIN_REQUEST)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        self.address = f"127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def add(self, principal: KeyRecord) -> KeyRecord:
        self.principals[principal.id] = principal
        return principal

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        form = await request.read()
        self.seen.append((request.path, messages.decode_form(form) if form else {}))
        fault = self.faults.popleft() if self.faults else self.always
        if fault is not None:
            response = await fault(self, request)
            if response is not None:
                assert isinstance(response, web.StreamResponse)
                return response
        return await self.answer(request)

    async def answer(self, request: web.Request) -> web.Response:
        form = await request.read()
        route = messages.ROUTE_OF_PATH.get(request.path)
        unknown = route is None and request.path != messages.TICKET_PATH
        if unknown or (self.stock and request.path.startswith("/cubeauth/")):
            return web.Response(status=404, text="404 page not found\n")
        try:
            reply = self._give_ticket(form) if route is None else self._administer(form, route)
        except ServerRefused as e:
            reply = strictjson.dumps({"code": e.server_code, "msg": e.detail, "data": None})
        except (AuthenticationFailed, MalformedMessage) as e:
            if self.stock:
                return await drop(self, request)
            reply = messages.refusal(e)
        except PeerError as e:
            reply = messages.refusal(e)
        self.replies.append(reply)
        return web.Response(text=reply, content_type="application/json")

    def _key(self, principal: str) -> bytes:
        if principal == ids.AUTH_SERVICE:
            return self.service_key
        if principal not in self.principals:
            if self.stock:
                raise ServerRefused(2, f"action[GetKey], clusterID[test] ID:{principal}, err:key not exists ")
            raise AuthenticationFailed
        return self.principals[principal].auth_key.reveal()

    def _caps(self, principal: str) -> str:
        return FULL if principal == ids.AUTH_SERVICE else self.principals[principal].caps

    def _prove(self, key: bytes, client_id: str, proof: bytes) -> verifier.Verifier:
        opened = verifier.open_(key, proof)
        verifier.check(opened, now=self.clock.now())
        mark = verifier.replay_key(client_id, proof)
        if mark in self.verifiers:
            raise ReplayDetected
        self.verifiers.add(mark)
        return opened

    def _give_ticket(self, form: bytes) -> str:
        request = exchange.parse_ticket_request(form)
        client = request.unverified_client_id
        key = self._key(client)
        proof = self._prove(key, client, request.unverified_proof)
        exchange.check_binding(proof, request.unverified_body, request.unverified_body)
        if self.stock and request.service_id not in ids.STOCK_SERVICES:
            raise ServerRefused(2, f"invalid service ID [{request.service_id}]")
        now = int(self.clock.now())
        issued = ticket.Ticket(
            service_id=ids.canonical_service(request.service_id),
            session_key=SecretBytes(entropy.system(ticket.SESSION_KEY_BYTES)),
            c_time=now,
            exp=now + self.lifetime,
            ip="127.0.0.1",
            caps=self._caps(client),
            client_id=client,
            jti=entropy.system(ticket.JTI_BYTES).hex(),
            kvno=1,
        )
        text = ticket.seal(self._key(issued.service_id), issued, entropy.system)
        reply = exchange.seal_ticket_reply(request, proof, issued, text, key=key, entropy=entropy.system)
        return self._without_exp(reply, key) if self.stock else reply

    def _without_exp(self, reply: str, key: bytes) -> str:
        members = strictjson.load_object(envelope.open_(key, messages.parse_reply(reply.encode())))
        del members["exp"]
        return messages.success(envelope.seal(key, strictjson.dumps(members).encode(), entropy.system).decode())

    def _administer(self, form: bytes, route: AdminRoute) -> str:
        request = exchange.parse_access_request(form, route)
        opened = ticket.open_(self.service_key, request.ticket)
        session = opened.session_key.reveal()
        proof = self._prove(session, request.unverified_client_id, request.unverified_proof)
        exchange.check_binding(proof, request.unverified_body, request.holder)
        ticket.check(opened, service_id=ids.AUTH_SERVICE, client_id=request.unverified_client_id)
        ticket.check_lifetime(opened, now=self.clock.now())
        if opened.client_id not in self.principals and opened.client_id != ids.AUTH_SERVICE:
            raise TicketInvalid("its key was deleted")
        if not caps.parse(opened.caps).capabilities.allows(route.capability):
            raise CapabilityMissing("no permission to access API")
        payload = self._do(route.word, request.payload)
        return exchange.seal_access_reply(request, session, proof, payload, entropy.system)

    def _do(self, word: str, payload: dict[str, Any]) -> dict[str, Any]:
        if word.startswith("os"):
            return self._object_node(word, payload)
        if word.endswith("raftnode"):
            return {"msg": f"{word} id :{payload['id']}, addr:{payload['addr']} successfully \n"}
        if word == "state":
            return {"state": {"keystore_id": "ab" * 16, "sequence": 7, "keys": len(self.principals), "version": "0.1.0"}}
        if word == "listkeys":
            return self._page(payload["after"], payload["limit"])
        return self._key_request(word, payload)

    def _key_request(self, word: str, payload: dict[str, Any]) -> dict[str, Any]:
        principal = payload["id"]
        if principal == ids.AUTH_SERVICE:
            raise RequestInvalid("AuthServiceID is reserved")
        if word == "createkey":
            if principal in self.principals:
                raise KeyRequestRefused("duplicate key")
            granted = strictjson.b64decode(payload["caps"]).decode()
            made = self.prepared.get(principal) or record(principal, role=ids.Role(payload["role"]))
            return self._tell(self.add(replace(made, caps=granted)))
        held = self._found(principal)
        if word == "deletekey":
            del self.principals[principal]
        elif word in ("addcaps", "deletecaps", "setcaps"):
            held = self._change(held, word, payload)
        told = self._tell(held)
        if word == "getcaps":
            told["key_info"] |= {"auth_key": None, "create_ts": 0, "role": ""}
        return told

    def _found(self, principal: str) -> KeyRecord:
        if principal not in self.principals:
            raise KeyRequestRefused("key not exists")
        return self.principals[principal]

    def _change(self, held: KeyRecord, word: str, payload: dict[str, Any]) -> KeyRecord:
        asked = caps.parse(strictjson.b64decode(payload["caps"])).capabilities
        before = caps.parse(held.caps).capabilities
        after = asked if word == "setcaps" else before.union(asked) if word.endswith("addcaps") else before.minus(asked)
        return self.add(replace(held, caps=after.to_json()))

    def _object_node(self, word: str, payload: dict[str, Any]) -> dict[str, Any]:
        found = [r for r in self.principals.values() if r.access_key == payload["access_key"]]
        if not found:
            raise KeyRequestRefused("access key not exists")
        secret, user = (found[0].secret_key.reveal().decode(), found[0].id) if word == "osgetcaps" else ("", "")
        held = found[0] if word == "osgetcaps" else self._change(found[0], word, payload)
        text = strictjson.b64encode(held.caps.encode())
        return {"access_key_caps": {"access_key": held.access_key, "secret_key": secret, "caps": text, "user_id": user}}

    def _tell(self, held: KeyRecord) -> dict[str, Any]:
        return {"key_info": keys.key_info(held), "auth_id_key": keys.auth_id_key(held.id, held.auth_key.reveal())}

    def _page(self, after: str, limit: int) -> dict[str, Any]:
        found = sorted(principal for principal in self.principals if principal > after)[:limit]
        listed = [
            {
                "id": r.id,
                "role": r.role.value,
                "create_ts": r.create_ts,
                "kvno": r.kvno,
                "caps": strictjson.b64encode(r.caps.encode()),
            }
            for r in (self.principals[principal] for principal in found)
        ]
        return {"keys": listed, "next": found[-1] if len(found) == limit else ""}
