"""HTTP on the ticket port: the lean path that every ticket takes.

httptools parses; this module bounds, routes and answers. A connection has at
most one request being answered; others that came behind it wait in order, and
past a few of them nothing more is read. Size, time and number of connections
are bounded; `sweep`, called every second, closes what has run out of time.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import deque
from collections.abc import Callable
from typing import Protocol, cast

import httptools

from cubeauth import messages
from cubeauth_authnode.config import Limits, Network
from cubeauth_authnode.shared import Counter

MAX_PIPELINED = 16
"""Requests that may wait behind the one being answered."""

JSON = b"application/json"
_OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
_ANY = b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n%b\r\n%b"
_CLOSE = b"Connection: close\r\n"
_TEXT = b"text/plain; charset=utf-8"
NOT_FOUND = (b"404 Not Found", b"404 page not found\n")
_METHOD = (b"405 Method Not Allowed", b"GET or POST\n")
_BAD = (b"400 Bad Request", b"not HTTP\n")
_TOO_LARGE = (b"413 Content Too Large", b"too large\n")
_BUSY = (b"503 Service Unavailable", b"too many connections\n")
OVERLOADED = (b"503 Service Unavailable", b"too many requests\n")
NO_ANSWER = (b"504 Gateway Timeout", b"no answer in time\n")

_TICKET_URL = messages.TICKET_PATH.encode("ascii")
_LARGEST_BODY = dict.fromkeys(messages.ROUTE_OF_PATH, messages.MAX_ADMIN_REQUEST) | {
    messages.TICKET_PATH: messages.MAX_TICKET_REQUEST
}

Answer = Callable[[bytes, tuple[bytes, bytes] | None], None]
"""Called once with a JSON body, or with b"" and a status line and its text."""


class Front(Protocol):
    """What answers requests. Both call `answer`, at once or later."""

    def ticket(self, form: bytes, peer: str, answer: Answer) -> None: ...

    def admin(self, path: str, form: bytes, peer: str, answer: Answer) -> None: ...


class Connections:
    """All connections of a worker: their limits, their clock, their counters."""

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
        self.trusted = trusted
        self.now = monotonic()
        self._monotonic = monotonic
        self.open: set[HttpConnection] = set()
        self.stopping = False
        self.empty = asyncio.Event()

    def __call__(self) -> HttpConnection:
        return HttpConnection(self)

    def admit(self) -> bool:
        """Whether one more may come in; counted until `gone`."""
        if self.stopping or self.counters[Counter.CONNECTIONS_OPEN] >= self.limits.connections:
            self.counters[Counter.CONNECTIONS_REFUSED] += 1
            return False
        self.counters[Counter.CONNECTIONS_ACCEPTED] += 1
        self.counters[Counter.CONNECTIONS_OPEN] += 1
        return True

    def gone(self) -> None:
        self.counters[Counter.CONNECTIONS_OPEN] -= 1
        self._tell_empty()

    def _tell_empty(self) -> None:
        """`empty` is set when a worker that stops has no connection left."""
        if self.stopping and not self.counters[Counter.CONNECTIONS_OPEN]:
            self.empty.set()

    def sweep(self) -> None:
        """Close what has been idle, or has been sending one request or taking one answer, for too long."""
        self.now = self._monotonic()
        for connection in list(self.open):
            connection.check_time(self.now)

    def stop(self) -> None:
        """Take no more; close what is idle, and the rest with its next answer."""
        self.stopping = True
        for connection in list(self.open):
            connection.finish()
        self._tell_empty()


class HttpConnection(asyncio.Protocol):
    """One connection of a peer."""

    __slots__ = (
        "_all",
        "_answering",
        "_body",
        "_choked",
        "_close_after",
        "_in_body",
        "_in_request",
        "_parser",
        "_peer",
        "_pumping",
        "_received",
        "_since",
        "_transport",
        "_url",
        "_waiting",
    )

    def __init__(self, connections: Connections) -> None:
        self._all = connections
        self._transport: asyncio.Transport | None = None
        self._peer = ""
        self._url = b""
        self._body: list[bytes] = []
        self._received = 0
        self._in_request = False
        self._answering = False
        self._in_body = False
        self._choked = False
        self._pumping = False
        self._close_after = False
        self._since = connections.now
        self._waiting: deque[tuple[bytes, bytes, bytes, bool, str]] = deque()

    # Socket side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._peer = peer_address(transport)
        self._since = self._all.now
        trusted = self._all.trusted and any(ipaddress.ip_address(self._peer) in network for network in self._all.trusted)
        self._parser = httptools.HttpRequestParser(_WithHeaders(self) if trusted else self)
        self._all.open.add(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        self._all.open.discard(self)
        self._all.gone()

    def data_received(self, data: bytes) -> None:
        self._since = self._all.now if not self._in_request else self._since
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._all.counters[Counter.REQUESTS_MALFORMED] += 1
            self._refuse(_BAD)
            return
        if self._in_request and self._received > (self._largest_body() if self._in_body else self._all.limits.header_bytes):
            self._all.counters[Counter.REQUESTS_MALFORMED] += 1
            self._refuse(_TOO_LARGE)

    def pause_writing(self) -> None:
        self._choked = True
        self._since = self._all.now

    def resume_writing(self) -> None:
        self._choked = False
        self._pump()

    def check_time(self, now: float) -> None:
        """Close when out of time: a request or an answer under way has `request_seconds`, silence has `idle_seconds`."""
        limits = self._all.limits
        busy = self._in_request or self._choked
        if self._answering or now - self._since < (limits.request_seconds if busy else limits.idle_seconds):
            return
        if busy:
            self._all.counters[Counter.TIMEOUTS] += 1
        if self._transport is not None:
            self._transport.abort()

    def finish(self) -> None:
        """Close now if nothing is under way, else with the answer."""
        self._close_after = True
        if not (self._answering or self._in_request or self._waiting) and self._transport is not None:
            self._transport.close()

    # Parser side.

    def on_message_begin(self) -> None:
        self._in_request = True
        self._in_body = False
        self._since = self._all.now
        self._url = b""
        self._body.clear()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_headers_complete(self) -> None:
        self._in_body = True
        self._received = 0

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        self._in_request = False
        self._received = 0
        body = b"".join(self._body) if len(self._body) != 1 else self._body[0]
        keep = self._parser.should_keep_alive()
        request = (self._parser.get_method(), self._url, body, keep, self._peer)
        if not (self._answering or self._choked or self._waiting):
            self._serve(*request)
            return
        self._waiting.append(request)
        if len(self._waiting) >= MAX_PIPELINED and self._transport is not None:
            self._transport.pause_reading()

    def _largest_body(self) -> int:
        return _LARGEST_BODY.get(_split(self._url)[0], 0)

    # Answers.

    def _serve(self, method: bytes, url: bytes, body: bytes, keep: bool, peer: str) -> None:
        self._close_after = self._close_after or not keep
        self._answering = True
        if url == _TICKET_URL and method == b"POST" and len(body) <= messages.MAX_TICKET_REQUEST:
            self._all.front.ticket(body, peer, self._answer)
            return
        path, query = _split(url)
        largest = _LARGEST_BODY.get(path)
        form = body if method == b"POST" else query
        if largest is None:
            self._answer(b"", NOT_FOUND)
        elif method not in (b"POST", b"GET"):
            self._answer(b"", _METHOD)
        elif len(form) > largest:
            self._answer(b"", _TOO_LARGE)
        elif path == messages.TICKET_PATH:
            self._all.front.ticket(form, peer, self._answer)
        else:
            self._all.front.admin(path, form, peer, self._answer)

    def _answer(self, body: bytes, status: tuple[bytes, bytes] | None) -> None:
        self._answering = False
        transport = self._transport
        if transport is None:
            return
        self._since = self._all.now
        if status is None and not self._close_after:
            transport.write(_OK % (len(body), body))
        else:
            line, body, kind = (*status, _TEXT) if status is not None else (b"200 OK", body, JSON)
            transport.write(_ANY % (line, kind, len(body), _CLOSE if self._close_after else b"", body))
        if self._close_after:
            transport.close()
        elif self._waiting and not self._pumping:
            self._pump()

    def _pump(self) -> None:
        """Serve what waited, one after the other; an answer given at once comes back into this loop, not into a deeper one."""
        self._pumping = True
        while self._waiting and not (self._answering or self._choked or self._transport is None):
            self._serve(*self._waiting.popleft())
        self._pumping = False
        if not self._waiting and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _refuse(self, status: tuple[bytes, bytes]) -> None:
        if self._transport is not None and not self._answering:
            self._close_after = True
            self._answer(b"", status)
        elif self._transport is not None:
            self._transport.close()


class _WithHeaders:
    """The parser's view of a connection from a configured proxy: the one case in which a header means something."""

    def __init__(self, connection: HttpConnection) -> None:
        self._proxy = connection._peer
        self._connection = connection
        self.on_url = connection.on_url
        self.on_headers_complete = connection.on_headers_complete
        self.on_body = connection.on_body
        self.on_message_complete = connection.on_message_complete

    def on_message_begin(self) -> None:
        self._connection._peer = self._proxy
        self._connection.on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        lower = name.lower()
        if lower == b"x-real-ip":
            candidate = value
        elif lower == b"x-forwarded-for":
            candidate = value.rpartition(b",")[2]  # what the proxy itself added stands last
        else:
            return
        text = candidate.strip().decode("ascii", "replace")
        try:
            address = ipaddress.ip_address(text.partition("%")[0])  # a zone means nothing elsewhere, and may hold any letter
        except ValueError:
            return  # an address that is none counts as not given: the proxy's own stands
        self._connection._peer = str(address)


def _split(url: bytes) -> tuple[str, bytes]:
    """Path and query of a request target; a target that is no URL has no path."""
    try:
        parsed = httptools.parse_url(url)
        return (parsed.path or b"").decode("ascii"), parsed.query or b""
    except (httptools.HttpParserError, UnicodeDecodeError):
        return "", b""


def peer_address(transport: asyncio.BaseTransport) -> str:
    """The address of the other end; IPv4 as such on a socket that serves both."""
    peer = transport.get_extra_info("peername")
    return str(peer[0]).removeprefix("::ffff:") if peer else "0.0.0.0"  # noqa: S104 - a name for nobody, not a bind


def busy_reply() -> bytes:
    """What a connection over the limit gets before it is closed."""
    line, text = _BUSY
    return _ANY % (line, _TEXT, len(text), _CLOSE, text)
