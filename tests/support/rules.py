"""What the tests of section 11's rules send and read: stock requests made by hand, codes, reasons in the audit."""

from __future__ import annotations

import base64
import json
import struct
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from tests.support import vectors
from tests.support.authnode import Authnode
from tests.support.replaying import seal
from tests.support.waiting import wait_for

from cubeauth.errors import ServerRefused
from cubeauth.exchange import TicketGrant
from cubeauth.keys import KeyFile
from cubeauth.messages import TICKET_PATH

FAILED = b'{"code":2,"msg":"authentication failed","data":null}'
GRANTED = 0
INT64 = (-(1 << 63), (1 << 63) - 1)


def form(members: dict[str, Any]) -> bytes:
    token = base64.b64encode(json.dumps(members).encode()).decode()
    return f"Token={quote(token, safe='')}".encode()


def ticket_form(key_file: KeyFile, verifier: bytes, service_id: str = "AuthService", **more: Any) -> bytes:
    """A stock ticket request whose verifier seals `verifier`."""
    sealed = seal(key_file.auth_key.reveal(), verifier)
    return form({"type": 0x110000, "client_id": key_file.id, "service_id": service_id, "verifier": sealed} | more)


def now_verifier(offset: int = 0) -> bytes:
    return struct.pack("<q", int(time.time()) + offset)


def code_of(authnode: Authnode, body: bytes, path: str = TICKET_PATH) -> int:
    status, answer = authnode.request(path, body)
    assert status == 200
    code = json.loads(answer)["code"]
    assert isinstance(code, int)
    return code


def refused_code(act: Callable[[], object]) -> int:
    with pytest.raises(ServerRefused) as caught:
        act()
    return caught.value.server_code


def opened_ticket(service: KeyFile, grant: TicketGrant) -> dict[str, Any]:
    return vectors.stock_open_json(service.auth_key.reveal(), grant.ticket)


def reasons(authnode: Authnode, start: int) -> list[str]:
    """The reasons of refusals audited after the first `start` lines."""
    return [line["reason"] for line in authnode.audit_lines[start:] if line["outcome"] == "refused"]


def wait_for_reason(authnode: Authnode, start: int, reason: str, count: int = 1) -> None:
    wait_for(f"{count} audit lines with {reason}", lambda: reasons(authnode, start).count(reason) >= count)
