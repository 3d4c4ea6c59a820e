"""The door of a worker: counts who comes in before anything is spent on them, and does TLS where it is asked for."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from cubeauth_authnode.connections import Connections
from cubeauth_authnode.http import HttpConnection, busy_reply
from cubeauth_authnode.shared import Counter
from cubeauth_authnode.tls import Reloader
from cubeauth_runtime.tasks import TaskOwner

BACKLOG = 1024

TLS_GOODBYE_SECONDS = 2.0
"""How long a peer may take to answer our end of TLS; many never do."""


class Gate:
    """Accepts on one socket into `connections`. tls: None for plain HTTP."""

    def __init__(self, connections: Connections, tls: Reloader | None) -> None:
        self.connections = connections
        self.tls = tls
        self._handshakes = TaskOwner(lambda _name, _error: None)  # one handshake's failure is one connection's
        self._server: asyncio.Server | None = None

    async def open(self, listening: socket.socket) -> None:
        """Accept from now on."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Arrival(self), sock=listening, backlog=BACKLOG)

    async def close(self) -> None:
        """Accept no more; TLS handshakes under way are given up."""
        if self._server is not None:
            self._server.close()
        await self._handshakes.close()

    def secure(self, transport: asyncio.Transport, connection: HttpConnection, reloader: Reloader) -> None:
        self._handshakes.start("tls handshake", self._handshake(transport, connection, reloader))

    async def _handshake(self, transport: asyncio.Transport, connection: HttpConnection, reloader: Reloader) -> None:
        secured: asyncio.Transport | None = None
        try:
            secured = await asyncio.get_running_loop().start_tls(
                transport,
                connection,
                reloader.context,
                server_side=True,
                ssl_handshake_timeout=self.connections.limits.request_seconds,
                ssl_shutdown_timeout=TLS_GOODBYE_SECONDS,
            )
        except OSError:  # a TLS error is one, and a timeout too: the peer's failure, which the counter tells
            return
        finally:
            if secured is None:
                self.connections.counters[Counter.TLS_FAILED] += 1
                transport.abort()
                self.connections.gone(connection)
        if secured is not None:
            connection.connection_made(secured)


class _Arrival(asyncio.Protocol):
    """A connection until it is known whether it may come in."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast(asyncio.Transport, transport)
        connection = self._gate.connections.admit()
        if connection is None:
            if self._gate.tls is None:
                stream.write(busy_reply())
            stream.close()
        elif self._gate.tls is None:
            stream.set_protocol(connection)
            connection.connection_made(stream)
        else:
            stream.pause_reading()
            self._gate.secure(stream, connection, self._gate.tls)
