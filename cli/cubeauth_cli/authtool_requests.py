"""The requests of `authtool api`: from checked data to the text that is printed or written."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from cubeauth import strictjson
from cubeauth.ids import Role
from cubeauth_cli.authtool_data import Data
from cubeauth_cli.goflags import Parsed
from cubeauth_client.admin import AdminClient
from cubeauth_client.authnode import Authnode
from cubeauth_client.endpoints import EndpointSet, parse_endpoints
from cubeauth_client.replies import AccessKeyCaps, KeyInfo
from cubeauth_client.tls import client_context
from cubeauth_runtime.clock import Clock

Ask = Callable[[AdminClient, Data], Awaitable[str]]


def authnode(parsed: Parsed, clock: Clock) -> Authnode:
    """The Authnode that -host, -https and -certfile name. Raises InputError."""
    endpoints = EndpointSet(parse_endpoints(parsed.text("host"), https=parsed.flag("https"), named="-host"))
    trusted = parsed.flag("https") or "certfile" in parsed.given
    return Authnode(endpoints, clock=clock, tls_context=client_context(Path(parsed.text("certfile"))) if trusted else None)


def _key(info: KeyInfo) -> str:
    """As stock's tool writes a key, where the reply holds one; else what it tells."""
    if info.auth_key is not None:
        return info.key_file().to_json()
    told = {"id": info.id, "create_ts": info.create_ts, "role": info.role, "caps": info.caps}
    return strictjson.dumps_indented({name: value for name, value in told.items() if value})


def _access_key(info: AccessKeyCaps) -> str:
    """Members as stock's tool names and orders them."""
    secret = info.secret_key.reveal().decode("ascii") if info.secret_key is not None else ""
    members: dict[str, Any] = {"access_key": info.access_key, "secret_key": secret, "caps": info.caps, "id": info.user_id}
    return strictjson.dumps_indented(members)


async def _create_key(admin: AdminClient, data: Data) -> str:
    return _key(await admin.create_key(data.id, Role(data.role), data.caps))


async def _delete_key(admin: AdminClient, data: Data) -> str:
    return _key(await admin.delete_key(data.id))


async def _get_key(admin: AdminClient, data: Data) -> str:
    return _key(await admin.get_key(data.id))


async def _add_caps(admin: AdminClient, data: Data) -> str:
    return _key(await admin.add_caps(data.id, data.caps))


async def _delete_caps(admin: AdminClient, data: Data) -> str:
    return _key(await admin.delete_caps(data.id, data.caps))


async def _get_caps(admin: AdminClient, data: Data) -> str:
    return _key(await admin.get_caps(data.id))


async def _add_raft_node(admin: AdminClient, data: Data) -> str:
    return await admin.add_raft_node(data.node, data.addr)


async def _remove_raft_node(admin: AdminClient, data: Data) -> str:
    return await admin.remove_raft_node(data.node, data.addr)


async def _os_add_caps(admin: AdminClient, data: Data) -> str:
    return _access_key(await admin.os_add_caps(data.access_key, data.caps))


async def _os_delete_caps(admin: AdminClient, data: Data) -> str:
    return _access_key(await admin.os_delete_caps(data.access_key, data.caps))


async def _os_get_caps(admin: AdminClient, data: Data) -> str:
    return _access_key(await admin.os_get_caps(data.access_key))


ASK: dict[str, Ask] = {
    "createkey": _create_key,
    "deletekey": _delete_key,
    "getkey": _get_key,
    "addcaps": _add_caps,
    "deletecaps": _delete_caps,
    "getcaps": _get_caps,
    "addraftnode": _add_raft_node,
    "removeraftnode": _remove_raft_node,
    "osaddcaps": _os_add_caps,
    "osdeletecaps": _os_delete_caps,
    "osgetcaps": _os_get_caps,
}
"""The words of cfs-authtool."""
