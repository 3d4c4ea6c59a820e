"""One socket of a connection: what asyncio says becomes events, commands become calls of its transport.

Reads go into memory that all sockets of the process share: what was read is
dealt with before the next read. Sending works before the socket is
connected; what waits then presses back like what waits in the transport.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Protocol, cast

from cubeauth.frames import Buffer
from cubeauth_sidecar.events import EndOfStream, Event, Lost, Received, Side

READ_BYTES = 256 * 1024
"""Of one read at most; as much as one record carries."""

CLOSE_CHECK = 2.0
"""Seconds between two looks at a socket that is being closed. A peer that was told why has this long to hang up; closed at once,
with bytes of its own unread, it would see a reset in place of the reason."""

CLOSE_STALLED = 60.0
"""Seconds without a byte taken, after which what is left to write is thrown away."""

KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_COUNT = 60, 15, 4
"""Seconds, seconds, probes: a host that vanished is noticed within two minutes, whatever the idle limit."""

_LINGER_RESET = struct.pack("ii", 1, 0)


def make_memory() -> memoryview:
    """What all sockets of a process read into."""
    return memoryview(bytearray(READ_BYTES))


class Owner(Protocol):
    """The connection that a socket belongs to."""

    def happened(self, event: Event) -> None: ...

    def pressed(self, side: Side, under_pressure: bool) -> None:
        """More than the limit waits to be written to `side`, or no longer does."""
        ...

    def there(self) -> None:
        """A socket is connected, wanted or not any more."""
        ...

    def gone(self) -> None:
        """It is closed."""
        ...


class SocketEnd(asyncio.BufferedProtocol):
    """made: called once connected. high: bytes that may wait to be written. address: of the other end, once connected."""

    def __init__(self, owner: Owner, side: Side, made: Callable[[], None], *, memory: memoryview, high: int) -> None:
        self._owner = owner
        self._side = side
        self._made = made
        self._memory = memory
        self._high = high
        self.address: tuple[str, int] = ("", 0)
        self._transport: asyncio.Transport | None = None
        self._pending: list[Buffer] = []
        self._pending_end = False
        self._early = bytearray()
        self._held = False
        self._pressed = False
        self._ended = False
        self._end_sent = False
        self._closing = False
        self._gone = False
        self._check: asyncio.TimerHandle | None = None
        self._left = 0
        self._stalled = 0.0

    # What asyncio says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's is one by its methods, not by its class
        self._transport = transport
        self._owner.there()
        if self._closing:
            transport.abort()
            return
        if (name := transport.get_extra_info("peername")) is not None:
            self.address = (str(name[0]), int(name[1]))
        transport.set_write_buffer_limits(high=self._high)
        _keep_alive(transport.get_extra_info("socket"))
        pending, self._pending = self._pending, []
        if pending:
            self._owner.pressed(self._side, False)
            transport.writelines(pending)
        if self._pending_end:
            self.end()
        self._made()

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._memory

    def buffer_updated(self, nbytes: int) -> None:
        if self._closing:
            return
        data = self._memory[:nbytes]
        if self._held:
            # uvloop begins to read when connection_made returns, whatever was asked in it.
            self._early += data
            self._apply()
        else:
            self._owner.happened(Received(self._side, data))

    def eof_received(self) -> bool:
        self._ended = True
        if self._closing:
            assert self._transport is not None
            self._transport.close()
        elif not self._held:
            self._owner.happened(EndOfStream(self._side))
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if self._gone:
            return
        self._gone = True
        if self._check is not None:
            self._check.cancel()
        if not self._closing:
            self._closing = True
            self._owner.happened(Lost(self._side, _said(exc)))
        self._owner.gone()

    def pause_writing(self) -> None:
        self._owner.pressed(self._side, True)

    def resume_writing(self) -> None:
        self._owner.pressed(self._side, False)

    # What the connection wants.

    def abandon(self) -> bool:
        """Its dial was given up. Whether that was in the instant that it succeeded: then uvloop closes it without a word."""
        connected = self._transport is not None and not self._gone
        if connected:
            self.connection_lost(None)
        return connected

    def hold(self, held: bool) -> None:
        """Read nothing, or go on."""
        self._held = held
        if not held and self._early:
            early, self._early = bytes(self._early), bytearray()
            self._owner.happened(Received(self._side, early))
        if not held and self._ended:
            self._owner.happened(EndOfStream(self._side))
        self._apply()

    def press(self, pressed: bool) -> None:
        """The other socket cannot take more, or can again."""
        self._pressed = pressed
        self._apply()

    def send(self, buffers: list[Buffer]) -> None:
        if self._transport is not None:
            if not self._transport.is_closing():
                self._transport.writelines(buffers)
            return
        self._pending += buffers
        if sum(map(len, self._pending)) > self._high:
            self._owner.pressed(self._side, True)

    def end(self) -> None:
        """After what was sent: FIN."""
        if self._transport is None:
            self._pending_end = True
        elif not self._end_sent and not self._transport.is_closing():
            self._end_sent = True
            self._transport.write_eof()

    def close(self) -> None:
        """Write out and close; hear the other end out for a moment, unless it has ended."""
        if self._closing:
            return
        self._closing = True
        if self._transport is None:
            return
        if self._ended:
            self._transport.close()
        else:
            self.end()
            self._transport.resume_reading()
        self._check = asyncio.get_running_loop().call_later(CLOSE_CHECK, self._check_close)

    def reset(self) -> None:
        """RST; nothing that waits is written. Also ends a close that is under way."""
        self._closing = True
        if self._transport is None or self._gone:
            return
        if not self._transport.is_closing():
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
        self._transport.abort()

    def _check_close(self) -> None:
        assert self._transport is not None
        left = self._transport.get_write_buffer_size()
        self._stalled = self._stalled + CLOSE_CHECK if left == self._left else 0.0
        self._left = left
        if self._stalled >= CLOSE_STALLED or not left:
            self._transport.abort()
        else:
            self._check = asyncio.get_running_loop().call_later(CLOSE_CHECK, self._check_close)

    def _apply(self) -> None:
        """Read, or do not. After the end of the stream uvloop would report it anew if it were told to read."""
        if self._transport is None or self._ended or self._closing or self._transport.is_closing():
            return
        if self._held or self._pressed:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()


def _keep_alive(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_COUNT)


def _said(error: Exception | None) -> str:
    if error is None:
        return "closed"
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
