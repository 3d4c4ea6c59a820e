"""All connections of a worker together: how many there may be, how long each may take, how much they may hold."""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter as Counts
from collections.abc import Callable

from cubeauth_authnode.config import Limits, Network
from cubeauth_authnode.http import Front, HttpConnection
from cubeauth_authnode.shared import Counter

MAX_HELD = 32 * 1024 * 1024
"""Bytes of requests that are half there or wait: thousands of slow ones of the largest size would be gigabytes."""


class Connections:
    """Their limits, their clock, their counters. held: bytes of requests that are half there or wait."""

    def __init__(
        self,
        front: Front,
        limits: Limits,
        counters: memoryview[int],
        trusted: tuple[Network, ...],
        monotonic: Callable[[], float],
    ) -> None:
        self.front = front
        self.limits = limits
        self.counters = counters
        self.counters[Counter.CONNECTIONS_OPEN] = 0  # those of a worker before this one, had it been killed
        self.now = monotonic()
        self.held = 0
        self._trusted = trusted
        self._monotonic = monotonic
        self._open: set[HttpConnection] = set()
        self._of: Counts[str] = Counts()
        self.stopping = False
        self.empty = asyncio.Event()

    def admit(self, origin: str) -> HttpConnection | None:
        """One more connection from the address `origin`, counted until `gone`; None where there are too many.

        One address has a part of them only, or it could keep everybody else out by saying nothing; a proxy is many.
        """
        crowded = self._of[origin] >= self.limits.per_peer and not self.is_proxy(origin)
        if self.stopping or crowded or len(self._open) >= self.limits.connections:
            self.counters[Counter.CONNECTIONS_REFUSED] += 1
            return None
        self.counters[Counter.CONNECTIONS_ACCEPTED] += 1
        connection = HttpConnection(self, origin)
        self._open.add(connection)
        self._of[origin] += 1
        self.counters[Counter.CONNECTIONS_OPEN] = len(self._open)
        return connection

    def gone(self, connection: HttpConnection) -> None:
        """However it ended; a second call does nothing, because a failed TLS handshake may end a connection twice."""
        if connection in self._open:
            self._open.remove(connection)
            self._of[connection.origin] -= 1
            if not self._of[connection.origin]:
                del self._of[connection.origin]
        self.counters[Counter.CONNECTIONS_OPEN] = len(self._open)
        self._tell_empty()

    def take(self, count: int) -> bool:
        """Hold `count` bytes more, to be taken off `held` again; whether that is still within bounds."""
        self.held += count
        if self.held <= MAX_HELD:
            return True
        self.counters[Counter.OVERLOADED] += 1
        return False

    def _tell_empty(self) -> None:
        """`empty` is set when a worker that stops has no connection left."""
        if self.stopping and not self._open:
            self.empty.set()

    def is_proxy(self, address: str) -> bool:
        return bool(self._trusted) and any(ipaddress.ip_address(address) in network for network in self._trusted)

    def sweep(self) -> None:
        """To be called every second: close what has been idle, or sending one request, or taking one answer, for too long."""
        self.now = self._monotonic()
        for connection in list(self._open):
            connection.check_time(self.now)

    def stop(self) -> None:
        """Take no more; close what is idle, and the rest with its next answer."""
        self.stopping = True
        for connection in list(self._open):
            connection.finish()
        self._tell_empty()
