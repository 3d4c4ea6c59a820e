"""What admin requests do (protocol-v1, section 4, and our routes of section 11 rule 13); who may is `authority`'s."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from cubeauth import caps, exchange, ids, keys, messages, strictjson
from cubeauth.caps import Capabilities
from cubeauth.entropy import Entropy
from cubeauth.errors import (
    AuthenticationFailed,
    CubeauthError,
    InputError,
    KeyRequestRefused,
    MalformedMessage,
    PeerError,
    Reason,
    RequestInvalid,
)
from cubeauth.keys import KeyRecord
from cubeauth.messages import AdminRoute
from cubeauth_authnode.authority import Authority, Caller
from cubeauth_authnode.directory import Directory
from cubeauth_authnode.keystore.base import (
    CapabilityChange,
    Change,
    ChangeCapabilities,
    CreateKey,
    DeleteKey,
    KeyExists,
    KeystoreError,
    KeystoreUnusable,
    KeyUnknown,
    Write,
)

log = logging.getLogger("cubeauth.admin")

MAX_PAGE = 1000
"""Keys in one page of a listing."""

MAX_PAGE_CAPS = 1024 * 1024
"""Bytes of capability lists in one page: in base64 twice it still goes through the link in one frame."""

_CHANGES = {
    "addcaps": CapabilityChange.ADD,
    "deletecaps": CapabilityChange.REMOVE,
    "setcaps": CapabilityChange.SET,
    "osaddcaps": CapabilityChange.ADD,
    "osdeletecaps": CapabilityChange.REMOVE,
}

Submit = Callable[[Write], Awaitable[Change]]
"""Makes a write durable and published before it returns. Raises KeystoreError."""


@dataclass(slots=True)
class Asked:
    """An authorized request on its way. target, ignored: whom it is about and what of it meant nothing, as soon as known."""

    route: AdminRoute
    caller: Caller
    payload: dict[str, Any]
    target: str = ""
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Done:
    """A reply, and what the audit says of it."""

    reply: str
    caller: str
    target: str
    ignored: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """What the state route tells beside the directory."""

    keystore_id: str
    version: str


class Refused(CubeauthError):
    """A request was refused. error: what the peer is told; facts: what the audit says of who asked, and for whom."""

    def __init__(self, error: PeerError, **facts: str) -> None:
        self.error = error
        self.facts = facts
        super().__init__(str(error))


class AdminDesk:
    """Answers admin requests; the one of the parent process, which owns the keystore."""

    def __init__(self, directory: Directory, authority: Authority, submit: Submit, facts: Facts, entropy: Entropy) -> None:
        self._directory = directory
        self._authority = authority
        self._submit = submit
        self._facts = facts
        self._entropy = entropy
        self._handlers: dict[str, Callable[[Asked], Awaitable[dict[str, Any]]]] = {
            "createkey": self._create_key,
            "deletekey": self._delete_key,
            "getkey": self._get_key,
            "addcaps": self._change_caps,
            "deletecaps": self._change_caps,
            "setcaps": self._change_caps,
            "getcaps": self._get_caps,
            "addraftnode": self._raft_node,
            "removeraftnode": self._raft_node,
            "osaddcaps": self._os_change_caps,
            "osdeletecaps": self._os_change_caps,
            "osgetcaps": self._os_get_caps,
            "state": self._state,
            "listkeys": self._list_keys,
        }

    async def answer(self, route: AdminRoute, form: bytes, now: float) -> Done:
        """Do what `form` asks. Raises Refused."""
        try:
            request = exchange.parse_access_request(form, route)
        except PeerError as e:
            raise Refused(e) from e
        try:
            caller = self._authority.authorize(request, route, now)
        except (AuthenticationFailed, MalformedMessage) as e:
            raise Refused(e, claimed=request.unverified_client_id) from e
        except PeerError as e:  # a ticket that is over, a capability that is not held: of a caller who is proven
            raise Refused(e, client=request.unverified_client_id) from e
        asked = Asked(route, caller, request.payload)
        try:
            payload = await self._handlers[route.word](asked)
        except (PeerError, InputError, KeystoreError) as e:
            raise Refused(_told_error(e, asked.target), client=caller.id, target=asked.target) from e
        if asked.ignored:
            payload["warning"] = f"members without meaning: {', '.join(asked.ignored)}"
        reply = exchange.seal_access_reply(request, caller.session_key, caller.proof, payload, self._entropy)
        return Done(reply, caller.id, asked.target, asked.ignored)

    # What a request names, checked. `asked.target` is set first, so that a refusal's audit line has it too.

    def _target(self, asked: Asked) -> str:
        principal = strictjson.text_member(asked.payload, "id") if "id" in asked.payload else ""
        asked.target = principal
        if not ids.valid_id(principal):
            raise RequestInvalid(f"invalid ID: {ids.ID_RULE}")
        if principal == ids.AUTH_SERVICE:
            raise RequestInvalid(f"{ids.AUTH_SERVICE} is reserved")
        if principal in ids.SERVICE_ALIASES:
            raise RequestInvalid(f"{principal} is another name of {ids.canonical_service(principal)}")
        return principal

    def _record(self, asked: Asked) -> KeyRecord:
        record = self._directory.get(self._target(asked))
        if record is None:
            raise KeyUnknown(asked.target)
        return record

    def _access_key(self, asked: Asked) -> str:
        access_key = asked.payload.get("access_key")
        if not isinstance(access_key, str) or not ids.valid_access_key(access_key):
            raise RequestInvalid("invalid AccessKey: 16 letters and digits")
        record = self._directory.find_access_key(access_key)
        if record is None:
            raise KeyRequestRefused("access key does not exist")
        asked.target = record.id
        return access_key

    def _capabilities(self, asked: Asked) -> Capabilities:
        encoded = strictjson.text_member(asked.payload, "caps")
        try:
            parsed = caps.parse(strictjson.b64decode(encoded))
        except MalformedMessage:
            raise RequestInvalid("caps: not base64") from None
        asked.ignored = parsed.unknown
        return parsed.capabilities

    # What a reply tells of a key.

    def _told(self, record: KeyRecord, caller: Caller) -> dict[str, Any]:
        """As stock does with its secrets, but only to who may read the key anyway."""
        if caller.may(messages.ROUTE_OF_WORD["getkey"].capability):
            return _with_secrets(record)
        return _without_secrets(record)

    async def _create_key(self, asked: Asked) -> dict[str, Any]:
        principal = self._target(asked)
        role = asked.payload.get("role")
        if not isinstance(role, str) or not ids.valid_role(role):
            raise RequestInvalid("invalid Role: client or service")
        change = await self._submit(CreateKey(principal, ids.Role(role), self._capabilities(asked)))
        return _with_secrets(change.record)

    async def _delete_key(self, asked: Asked) -> dict[str, Any]:
        change = await self._submit(DeleteKey(self._target(asked)))
        return self._told(change.record, asked.caller)

    async def _get_key(self, asked: Asked) -> dict[str, Any]:
        return _with_secrets(self._record(asked))

    async def _get_caps(self, asked: Asked) -> dict[str, Any]:
        return _without_secrets(self._record(asked))

    async def _change_caps(self, asked: Asked) -> dict[str, Any]:
        principal = self._target(asked)
        change = await self._submit(ChangeCapabilities(_CHANGES[asked.route.word], self._capabilities(asked), id=principal))
        return self._told(change.record, asked.caller)

    async def _os_change_caps(self, asked: Asked) -> dict[str, Any]:
        access_key = self._access_key(asked)
        how = _CHANGES[asked.route.word]
        change = await self._submit(ChangeCapabilities(how, self._capabilities(asked), access_key=access_key))
        return {"access_key_caps": _access_key_caps(access_key, change.record)}

    async def _os_get_caps(self, asked: Asked) -> dict[str, Any]:
        record = self._directory.find_access_key(self._access_key(asked))
        assert record is not None  # _access_key found it, and nothing ran in between
        secret = record.secret_key.reveal().decode("ascii")
        told = _access_key_caps(record.access_key, record) | {"secret_key": secret, "user_id": record.id}
        return {"access_key_caps": told}

    async def _raft_node(self, asked: Asked) -> dict[str, Any]:
        if (
            type(asked.payload.get("id")) is not int
            or not 0 <= asked.payload["id"] < 1 << 64
            or not isinstance(asked.payload.get("addr"), str)
        ):
            raise RequestInvalid("node_info: id is a number and addr a text")
        raise RequestInvalid("this Authnode keeps its keys in one process: it has no raft nodes to add or remove")

    async def _state(self, _asked: Asked) -> dict[str, Any]:
        return {
            "state": {
                "keystore_id": self._facts.keystore_id,
                "sequence": self._directory.sequence,
                "keys": len(self._directory),
                "version": self._facts.version,
            }
        }

    async def _list_keys(self, asked: Asked) -> dict[str, Any]:
        after, limit = asked.payload.get("after", ""), asked.payload.get("limit", MAX_PAGE)
        if not isinstance(after, str) or type(limit) is not int or not 1 <= limit <= MAX_PAGE:
            raise RequestInvalid(f"page: after is an id or empty, limit 1 to {MAX_PAGE}")
        page = self._directory.after(after, limit)
        listed: list[dict[str, Any]] = []
        size = 0
        for r in page:
            size += len(r.caps)
            if size > MAX_PAGE_CAPS and listed:
                break
            listed.append({"id": r.id, "role": r.role.value, "create_ts": r.create_ts, "kvno": r.kvno, "caps": _encoded_caps(r)})
        whole = len(listed) == len(page) < limit
        return {"keys": listed, "next": "" if whole else listed[-1]["id"]}


def _told_error(error: PeerError | InputError | KeystoreError, target: str) -> PeerError:
    """What a known caller is told."""
    if isinstance(error, MalformedMessage):
        return RequestInvalid(error.detail)
    if isinstance(error, PeerError):
        return error
    if isinstance(error, InputError):
        return RequestInvalid(f"{error.field}: {error.problem}" if error.field else error.problem)
    if isinstance(error, KeyExists):
        return KeyRequestRefused(f"key {target} exists", reason=Reason.KEY_EXISTS)
    if isinstance(error, KeyUnknown):
        return KeyRequestRefused(f"key {target} does not exist", reason=Reason.KEY_UNKNOWN)
    if isinstance(error, KeystoreUnusable):
        log.error("keystore: %s", error)  # it names files, which are not the peer's business
        return KeyRequestRefused("the keystore cannot be written", reason=Reason.KEYSTORE_FAILED)
    return KeyRequestRefused(f"keystore: {error}", reason=Reason.BAD_REQUEST)


def _encoded_caps(record: KeyRecord) -> str:
    return strictjson.b64encode(record.caps.encode("utf-8"))


def _with_secrets(record: KeyRecord) -> dict[str, Any]:
    return {"key_info": keys.key_info(record), "auth_id_key": keys.auth_id_key(record.id, record.auth_key.reveal())}


def _without_secrets(record: KeyRecord) -> dict[str, Any]:
    told = keys.key_info(record) | {"auth_key": None, "access_key": "", "secret_key": ""}
    return {"key_info": told, "auth_id_key": ""}


def _access_key_caps(access_key: str, record: KeyRecord) -> dict[str, Any]:
    return {"access_key": access_key, "secret_key": "", "caps": _encoded_caps(record), "user_id": ""}
