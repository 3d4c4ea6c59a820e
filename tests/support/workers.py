"""Which worker a connection reached, and connections to every worker."""

from __future__ import annotations

import http.client
import json
import os
import time
from pathlib import Path
from typing import Any

from tests.support.authnode import Authnode

from cubeauth import entropy, exchange, messages
from cubeauth.exchange import Sent
from cubeauth.keys import KeyFile

MANY = 200
"""Connections among which every worker is sure to be: the kernel spreads them by a hash."""


def _inode(server_port: int, client_port: int) -> str:
    """Inode of the server's end of a connection on this machine."""
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(name).read_text().splitlines()[1:]:
            fields = line.split()
            local, remote = (int(address.rpartition(":")[2], 16) for address in fields[1:3])
            if (local, remote) == (server_port, client_port) and fields[9] != "0":
                return fields[9]
    return ""


def _holds(pid: int, inode: str) -> bool:
    try:
        return any(os.readlink(fd) == f"socket:[{inode}]" for fd in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:  # gone meanwhile, or a descriptor was
        return False


def worker_of(authnode: Authnode, connection: http.client.HTTPConnection) -> int:
    """The pid of the worker that accepted `connection`, which has had an answer."""
    inode = _inode(authnode.port, connection.sock.getsockname()[1])
    (pid,) = [pid for pid in authnode.worker_pids() if _holds(pid, inode)]
    return pid


class Kept:
    """A connection that stays open."""

    def __init__(self, authnode: Authnode) -> None:
        self.http = (
            http.client.HTTPConnection(authnode.host, authnode.port, timeout=20)
            if authnode.tls is None
            else http.client.HTTPSConnection(authnode.host, authnode.port, timeout=20, context=authnode.tls)
        )
        self.http.connect()

    def send(self, path: str, body: bytes) -> None:
        self.http.request("POST", path, body=body, headers={"Content-Type": messages.CONTENT_TYPE_FORM})

    def receive(self) -> dict[str, Any]:
        response = self.http.getresponse()
        members: dict[str, Any] = json.loads(response.read())
        return members

    def ask(self, body: bytes, path: str = messages.TICKET_PATH) -> dict[str, Any]:
        self.send(path, body)
        return self.receive()

    def close(self) -> None:
        self.http.close()


def connections_to_every_worker(authnode: Authnode) -> dict[int, Kept]:
    """One connection to each worker, by pid. Every one has had an answer (a refusal)."""
    found: dict[int, Kept] = {}
    wanted = set(authnode.worker_pids())
    for _ in range(MANY):
        kept = Kept(authnode)
        kept.ask(b"")
        pid = worker_of(authnode, kept.http)
        if pid in found:
            kept.close()
        else:
            found[pid] = kept
        if found.keys() == wanted:
            return found
    raise AssertionError(f"{MANY} connections reached {sorted(found)} of {sorted(wanted)}")


def ticket_request(key_file: KeyFile, service_id: str = "AuthService", *, now: float | None = None) -> Sent:
    """A ticket request of its own proof."""
    at = time.time() if now is None else now
    return exchange.ask_ticket(key_file.id, key_file.auth_key, service_id, now=at, entropy=entropy.system)
