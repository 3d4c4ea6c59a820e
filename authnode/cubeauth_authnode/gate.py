"""The door of a worker: counts who comes in before anything is spent on them, and does TLS where it is asked for.

With TLS it accepts by itself. uvloop's server reads from a connection before
anyone can tell it to wait, and what it reads until TLS has begun is lost: one
in five handshakes, where the client's first bytes were quick.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import cast

from cubeauth_authnode.connections import Connections
from cubeauth_authnode.http import HttpConnection, busy_reply
from cubeauth_authnode.peers import address_of, peer_address
from cubeauth_authnode.shared import Counter
from cubeauth_authnode.tls import Reloader
from cubeauth_runtime.tasks import OnDeath, TaskOwner

log = logging.getLogger("cubeauth.gate")

BACKLOG = 1024

ACCEPT_PAUSE = 0.1
"""Seconds without accepting after the system refused to: mostly for want of file descriptors."""

TLS_GOODBYE_SECONDS = 2.0
"""How long a peer may take to answer our end of TLS; many never do."""


class Gate:
    """Accepts on one socket into `connections`. tls: None for plain HTTP. on_death: hears when it cannot accept any more."""

    def __init__(self, connections: Connections, tls: Reloader | None, on_death: OnDeath) -> None:
        self.connections = connections
        self.tls = tls
        self._accepting = TaskOwner(on_death)
        self._handshakes = TaskOwner(lambda _name, _error: None)  # one handshake's failure is one connection's
        self._server: asyncio.Server | None = None

    async def open(self, listening: socket.socket) -> None:
        """Accept from now on."""
        if self.tls is not None:
            listening.setblocking(False)
            listening.listen(BACKLOG)
            self._accepting.start("accept", self._accept(listening, self.tls))
            return
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Arrival(self), sock=listening, backlog=BACKLOG)

    async def close(self) -> None:
        """Accept no more; TLS handshakes under way are given up."""
        if self._server is not None:
            self._server.close()
        await self._accepting.close()
        await self._handshakes.close()

    async def _accept(self, listening: socket.socket, reloader: Reloader) -> None:
        loop = asyncio.get_running_loop()
        with listening:
            while True:
                try:
                    stream, peer = await loop.sock_accept(listening)
                except OSError as e:
                    log.error("connections cannot be accepted: %s", e.strerror)
                    await asyncio.sleep(ACCEPT_PAUSE)
                    continue
                connection = self.connections.admit(address_of(peer))
                if connection is None:
                    stream.close()
                else:
                    self._handshakes.start("tls handshake", self._handshake(stream, connection, reloader))

    async def _handshake(self, stream: socket.socket, connection: HttpConnection, reloader: Reloader) -> None:
        secured = False
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                stream,
                ssl=reloader.context,
                ssl_handshake_timeout=self.connections.limits.request_seconds,
                ssl_shutdown_timeout=TLS_GOODBYE_SECONDS,
            )
            secured = True
        except OSError:  # a TLS error is one, and a timeout too: the peer's failure, which the counter tells
            return
        finally:
            if not secured:
                self.connections.counters[Counter.TLS_FAILED] += 1
                self.connections.gone(connection)


class _Arrival(asyncio.Protocol):
    """A connection without TLS until it is known whether it may come in."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast(asyncio.Transport, transport)
        connection = self._gate.connections.admit(peer_address(stream))
        if connection is None:
            stream.write(busy_reply())
            stream.close()
        else:
            stream.set_protocol(connection)
            connection.connection_made(stream)
