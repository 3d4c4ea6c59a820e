"""The listeners of a sidecar: who is let in, how many at once, and how it ends."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from contextlib import suppress

from cubeauth.errors import InputError
from cubeauth.phases import Mode
from cubeauth_runtime.endpoint import said
from cubeauth_sidecar.config import Limits
from cubeauth_sidecar.connection import Connection, Surroundings
from cubeauth_sidecar.events import Accepted, Stopped
from cubeauth_sidecar.listeners import Listener, shown
from cubeauth_sidecar.metrics import Metrics

log = logging.getLogger("cubeauth.sidecar")

BACKLOG = 512
"""Connections that wait to be accepted; a node that comes back has all its peers dial at once."""


class Server:
    """start() it; drain() ends it."""

    def __init__(self, listeners: list[Listener], limits: Limits, around: Surroundings, metrics: Metrics) -> None:
        self._listeners = listeners
        self._limits = limits
        self._around = around
        self._metrics = metrics
        self._servers: list[asyncio.Server] = []
        self._connections: set[Connection] = set()
        self._opening: set[Connection] = set()
        self._per_peer: Counter[str] = Counter()
        self._opening_per_peer: Counter[str] = Counter()
        self._empty = asyncio.Event()
        self._empty.set()
        self._draining = False
        self._over = asyncio.Event()

    def __len__(self) -> int:
        """Connections now."""
        return len(self._connections)

    async def start(self) -> dict[str, int]:
        """Listen everywhere, or nowhere; the port of each listener by name. Raises InputError naming the setting."""
        ports = {}
        try:
            for listener in self._listeners:
                ports[listener.name] = await self._listen(listener)
        except InputError:
            self._close_listeners()
            raise
        return ports

    async def _listen(self, listener: Listener) -> int:
        host, port = listener.address
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(
                lambda: Connection(listener, self._around, self).incoming, host or None, port, backlog=BACKLOG
            )
        except OSError as e:
            problem = f"cannot listen on {shown(listener.address)}: {said(e)}"
            raise InputError(f"{listener.setting}.listen", problem, "free the address or choose another") from None
        self._servers.append(server)
        self._metrics.clear.labels(listener.name).set(listener.mode is Mode.CLEAR)
        bound: int = server.sockets[0].getsockname()[1]
        return bound

    def came(self, connection: Connection) -> None:
        listener = connection.listener
        why = self._over_limit(connection)
        if why:
            self._around.journal.turned_away(listener, why)
            connection.reset()
            return
        self._connections.add(connection)
        self._empty.clear()
        if listener.strangers:
            address = connection.incoming.address[0]
            self._per_peer[address] += 1
            self._opening.add(connection)
            self._opening_per_peer[address] += 1
        connection.happened(Accepted())

    def _over_limit(self, connection: Connection) -> str:
        if len(self._connections) >= self._limits.connections:
            return "connections"
        if not connection.listener.strangers:
            return ""
        if len(self._opening) >= self._limits.handshakes:
            return "handshakes"
        address = connection.incoming.address[0]
        if self._per_peer[address] >= self._limits.per_peer:
            return "per_peer"
        return "handshakes_per_peer" if self._opening_per_peer[address] >= self._limits.handshakes_per_peer else ""

    def settled(self, connection: Connection) -> None:
        if connection in self._opening:
            self._opening.remove(connection)
            _one_less(self._opening_per_peer, connection.incoming.address[0])

    def ended(self, connection: Connection) -> None:
        if connection not in self._connections:
            return
        connection.tally()
        self._connections.remove(connection)
        self.settled(connection)
        if connection.listener.strangers:
            _one_less(self._per_peer, connection.incoming.address[0])
        if not self._connections:
            self._empty.set()
            if self._draining:
                self._over.set()

    def ticket_came(self, service: str) -> None:
        """Connections in grace live on the Authnode's silence, which is over: they take the new ticket before anything else."""
        for connection in list(self._connections):
            if connection.relay.in_grace and not connection.listener.strangers and connection.listener.service == service:
                connection.offer_ticket()

    async def drain(self, seconds: float) -> None:
        """Take nobody in any more, let connections end by themselves for `seconds` or until cut(), reset the rest."""
        self._draining = True
        self._close_listeners()
        log.info("stopping: nobody is let in any more", extra={"connections": len(self)})
        if self._connections:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), seconds)
        if self._connections:
            log.warning("connections cut off at the end", extra={"connections": len(self._connections)})
        for connection in list(self._connections):
            connection.happened(Stopped())
            connection.reset()
        await self._empty.wait()

    def cut(self) -> None:
        """Wait no longer."""
        self._over.set()

    def _close_listeners(self) -> None:
        for server in self._servers:
            server.close()

    def collect(self) -> None:
        """Bring the connections' metrics up to date."""
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for connection in self._connections:
            connection.tally()
            counts[connection.listener.name].update(
                open=1, opening=connection.relay.opening, in_grace=connection.relay.in_grace and not connection.relay.closed
            )
        for listener in self._listeners:
            found = counts[listener.name]
            self._metrics.open.labels(listener.name).set(found["open"])
            self._metrics.opening.labels(listener.name).set(found["opening"])
            self._metrics.in_grace.labels(listener.name).set(found["in_grace"])


def _one_less(counts: Counter[str], key: str) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
