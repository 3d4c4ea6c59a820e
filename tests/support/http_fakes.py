"""One HttpConnection without a socket: a transport that remembers, a front that answers when it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cubeauth_authnode.config import Limits, Network
from cubeauth_authnode.connections import Connections
from cubeauth_authnode.http import Answer, HttpConnection
from cubeauth_authnode.shared import BLOCK_WORDS, Counter

LIMITS = Limits(connections=3, request_seconds=10, idle_seconds=60)


class FakeTransport(asyncio.Transport):
    """What was written, and what was asked of it. tls: whether it says that it is TLS."""

    def __init__(self, peer: str | None = "192.0.2.7", *, tls: bool = False) -> None:
        super().__init__()
        self.peer = peer
        self.tls = tls
        self.written = bytearray()
        self.closed = False
        self.aborted = False
        self.reading = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "peername":
            return (self.peer, 40000) if self.peer is not None else None
        return object() if name == "sslcontext" and self.tls else default

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        assert not self.is_closing(), "written to a closed transport"
        self.written += data

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.closed or self.aborted


@dataclass
class Asked:
    """One request as the front got it."""

    path: str
    form: bytes
    peer: str
    answer: Answer


class FakeFront:
    """Answers tickets at once and admin requests when the test calls `answer`. act: what to do instead for tickets."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.act: Callable[[Asked], None] = lambda asked: asked.answer(b'{"form":"%b"}' % asked.form[:40], None)

    def ticket(self, form: bytes, peer: str, answer: Answer) -> None:
        self.asked.append(Asked("", form, peer, answer))
        self.act(self.asked[-1])

    def admin(self, path: str, form: bytes, peer: str, answer: Answer) -> None:
        self.asked.append(Asked(path, form, peer, answer))


@dataclass(frozen=True)
class Response:
    status: int
    headers: dict[str, str]
    body: bytes


def responses(written: bytes) -> list[Response]:
    """What a client reads out of the stream; an answer to HEAD has the length 0 here. Asserts that nothing is left over."""
    found = []
    while written:
        head, _, rest = written.partition(b"\r\n\r\n")
        first, *lines = head.decode("ascii").split("\r\n")
        version, status, _ = first.split(" ", 2)
        assert version == "HTTP/1.1"
        headers = dict(line.split(": ", 1) for line in lines)
        length = int(headers["Content-Length"])
        assert len(rest) >= length
        found.append(Response(int(status), headers, rest[:length]))
        written = rest[length:]
    return found


class Wire:
    """A connection with its transport, front, clock and counters."""

    def __init__(
        self, limits: Limits = LIMITS, *, trusted: tuple[Network, ...] = (), peer: str = "192.0.2.7", tls: bool = False
    ) -> None:
        self.time = 1000.0
        self.front = FakeFront()
        self.counters = memoryview(bytearray(8 * BLOCK_WORDS)).cast("Q")
        self.all = Connections(self.front, limits, self.counters, trusted, lambda: self.time)
        self.transport = FakeTransport(peer, tls=tls)
        self.connection = self.connect(self.transport)

    def connect(self, transport: FakeTransport) -> HttpConnection:
        connection = self.all.admit("192.0.2.1")
        assert connection is not None
        connection.connection_made(transport)
        return connection

    def feed(self, data: bytes, *, size: int = 0) -> None:
        """size: bytes a time; 0 for all at once."""
        step = size or max(1, len(data))
        for start in range(0, len(data), step):
            if not self.transport.is_closing():
                self.connection.data_received(data[start : start + step])

    @property
    def responses(self) -> list[Response]:
        return responses(bytes(self.transport.written))

    @property
    def statuses(self) -> list[int]:
        return [response.status for response in self.responses]

    @property
    def bodies(self) -> list[bytes]:
        return [response.body for response in self.responses]

    def reads(self) -> bool:
        return self.transport.reading

    def is_cut_off(self) -> bool:
        return self.transport.aborted

    def pass_time(self, seconds: float) -> None:
        """As the worker does: a sweep every second."""
        for _ in range(int(seconds)):
            self.time += 1
            self.all.sweep()

    def lose(self) -> None:
        self.connection.connection_lost(None)

    def count(self, counter: Counter) -> int:
        return self.counters[counter]


def post(path: str, body: bytes, *headers: str, version: str = "1.1") -> bytes:
    lines = [f"POST {path} HTTP/{version}", "Host: authnode", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def get(target: str, *headers: str, version: str = "1.1", method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/{version}", "Host: authnode", *headers]).encode() + b"\r\n\r\n"
