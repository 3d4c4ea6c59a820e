"""The door of a worker: counts who comes in before anything is spent on them, and does TLS where it is asked for."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from typing import cast

from cubeauth_authnode.http import Connections, HttpConnection, busy_reply
from cubeauth_authnode.shared import Counter
from cubeauth_authnode.tls import Reloader
from cubeauth_runtime.tasks import TaskOwner

log = logging.getLogger("cubeauth.gate")

BACKLOG = 1024


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

    def close(self) -> None:
        """Accept no more."""
        if self._server is not None:
            self._server.close()

    async def wait_closed(self) -> None:
        await self._handshakes.close()

    def secure(self, transport: asyncio.Transport, reloader: Reloader) -> None:
        self._handshakes.start("tls handshake", self._handshake(transport, reloader.context))

    async def _handshake(self, transport: asyncio.Transport, context: ssl.SSLContext) -> None:
        connection = self.connections()
        seconds = self.connections.limits.request_seconds
        try:
            secured = await asyncio.get_running_loop().start_tls(
                transport, connection, context, server_side=True, ssl_handshake_timeout=seconds
            )
        except (OSError, ssl.SSLError, asyncio.CancelledError) as e:
            self.connections.counters[Counter.TLS_FAILED] += 1
            self.connections.gone()
            transport.abort()
            if isinstance(e, asyncio.CancelledError):
                raise
            return
        if secured is None:
            self.connections.gone()
            return
        connection.connection_made(secured)


class _Arrival(asyncio.Protocol):
    """A connection until it is known whether it may come in."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast(asyncio.Transport, transport)
        connections = self._gate.connections
        if not connections.admit():
            if self._gate.tls is None:
                stream.write(busy_reply())
            stream.close()
        elif self._gate.tls is None:
            connection: HttpConnection = connections()
            stream.set_protocol(connection)
            connection.connection_made(stream)
        else:
            stream.pause_reading()
            self._gate.secure(stream, self._gate.tls)
