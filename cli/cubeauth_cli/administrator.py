"""Asking an Authnode in an administrator's name, as `apply` and `authnode import` do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cubeauth import keys
from cubeauth.errors import CODE_KEYSTORE, CODE_PARAMETER, InputError
from cubeauth_client.admin import AdminClient
from cubeauth_client.authnode import Authnode
from cubeauth_client.endpoints import EndpointSet, parse_endpoints
from cubeauth_client.errors import AuthnodeRefused
from cubeauth_client.replies import KeyInfo
from cubeauth_client.tickets import TicketsOnDemand
from cubeauth_client.tls import client_context
from cubeauth_runtime.clock import Clock
from cubeauth_runtime.files import read_text

_UNKNOWN_KEY = re.compile(r"does not exist|key not exists")
"""Ours and stock's words; code 35 alone is also a store that failed."""


@dataclass(frozen=True, slots=True)
class Administrator:
    """key_file: whose name is asked in; id: that principal's."""

    client: AdminClient
    key_file: Path
    id: str

    @contextmanager
    def refusals_told(self) -> Iterator[None]:
        """What the Authnode says to the first requests is about who asks: an InputError that names the key file."""
        try:
            yield
        except AuthnodeRefused as e:
            asked_too_much = e.code == CODE_PARAMETER and not e.hint
            remedy = "an administrator's key holds auth:*:access, or what is asked for here" if asked_too_much else ""
            raise InputError("", f"the key of {self.id}: {e}", remedy, source=str(self.key_file)) from None


def administrator(address: str, key_file: Path, ca_file: Path | None, *, option: str, clock: Clock) -> Administrator:
    """address: one or several with commas, as `option` gave them. Raises InputError."""
    endpoints = parse_endpoints(address, named=option)
    https = any(endpoint.https for endpoint in endpoints)
    if ca_file is not None and not https:
        raise InputError("--ca-file", f"given, but {option} has no https:// address", "write https://HOST:PORT, or leave it out")
    try:
        key = keys.parse_key_file(read_text(key_file))
    except InputError as e:
        raise e.located(str(key_file)) from None
    authnode = Authnode(EndpointSet(endpoints), clock=clock, tls_context=client_context(ca_file) if https else None)
    return Administrator(AdminClient(authnode, TicketsOnDemand(authnode, key.id, key.auth_key)), key_file, key.id)


def is_unknown_key(error: AuthnodeRefused) -> bool:
    """Whether the answer was that there is no key of this id."""
    return error.code == CODE_KEYSTORE and _UNKNOWN_KEY.search(error.text) is not None


async def find_key(client: AdminClient, principal: str) -> KeyInfo | None:
    """The key with its secrets, or None where the Authnode has none of this id. Raises as AdminClient does."""
    try:
        return await client.get_key(principal)
    except AuthnodeRefused as e:
        if is_unknown_key(e):
            return None
        raise
