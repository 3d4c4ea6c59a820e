"""HTTP on the ticket port: the lean path that every ticket takes.

httptools parses; this module bounds, routes and answers. A connection has at
most one request being answered; others that came behind it wait in order, and
past a few of them nothing more is read. Whatever ends a connection, a refusal
too, takes effect after the answers before it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, cast

import httptools

from cubeauth import messages
from cubeauth_authnode.peers import NOBODY, BehindProxy, peer_address
from cubeauth_authnode.shared import Counter

if TYPE_CHECKING:
    from cubeauth_authnode.connections import Connections

log = logging.getLogger("cubeauth.http")

SWEEP_SECONDS = 1.0
"""How often connections are looked at for their time."""

MAX_PIPELINED = 16
"""Requests that may wait behind the one being answered."""

PIECE = 4096
"""Bytes that the parser is given at once: bounds of size are kept to within that."""

_WAITING_BYTES = 256
"""What a waiting request takes beside its body, about."""

MAX_UNSENT = 16 * 1024
"""Bytes of answers that may wait for a slow reader before its next request does."""

JSON = b"application/json"
_OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
_ANY = b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n%b\r\n%b"
_CLOSE = b"Connection: close\r\n"
_TEXT = b"text/plain; charset=utf-8"
NOT_FOUND = (b"404 Not Found", b"404 page not found\n")
_METHOD = (b"405 Method Not Allowed", b"GET or POST\n")
_METHOD_OF_HEAD = (b"405 Method Not Allowed", b"")
_BAD = (b"400 Bad Request", b"not HTTP\n")
_TOO_LARGE = (b"413 Content Too Large", b"too large\n")
_UPGRADE = (b"501 Not Implemented", b"no other protocol than HTTP/1.1\n")
_FAILED = (b"500 Internal Server Error", b"failed\n")
_BUSY = (b"503 Service Unavailable", b"too many connections\n")
OVERLOADED = (b"503 Service Unavailable", b"too many requests\n")
NO_ANSWER = (b"504 Gateway Timeout", b"no answer in time\n")

_TICKET_URL = messages.TICKET_PATH.encode("ascii")
_LARGEST_BODY = dict.fromkeys(messages.ROUTE_OF_PATH, messages.MAX_ADMIN_REQUEST) | {
    messages.TICKET_PATH: messages.MAX_TICKET_REQUEST
}

Status = tuple[bytes, bytes]
"""A status line's code and words, and a text."""

Answer = Callable[[bytes, Status | None], None]
"""Called once with a JSON body, or with b"" and a status."""


class Front(Protocol):
    """What answers requests. Both call `answer`, at once or later."""

    def ticket(self, form: bytes, peer: str, answer: Answer) -> None: ...

    def admin(self, path: str, form: bytes, peer: str, answer: Answer) -> None: ...


_Request = tuple[bytes, bytes, bytes, str]
"""Method, target, body, peer."""


class HttpConnection(asyncio.Protocol):
    """One connection of a peer."""

    __slots__ = (
        "_all",
        "_answering",
        "_body",
        "_choked",
        "_ended",
        "_held",
        "_in_body",
        "_in_request",
        "_last",
        "_over",
        "_parser",
        "_paused",
        "_pumping",
        "_received",
        "_refusal",
        "_since",
        "_transport",
        "_url",
        "_waiting",
        "origin",
        "peer",
    )

    def __init__(self, connections: Connections, origin: str) -> None:
        self._all = connections
        self.origin = origin
        self._transport: asyncio.Transport | None = None
        self.peer = NOBODY
        self._url = b""
        self._body: list[bytes] = []
        self._received = 0
        self._held = 0
        self._in_request = False
        self._in_body = False
        self._answering = False
        self._choked = False
        self._paused = False
        self._pumping = False
        self._last = False  # the request that is being read is the last
        self._ended = False  # nothing more is read
        self._over = False  # nothing more is written
        self._refusal: Status | None = None
        self._since = connections.now
        self._waiting: deque[_Request] = deque()

    # Socket side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=MAX_UNSENT)
        self.peer = peer_address(transport)
        self._since = self._all.now
        self._parser = httptools.HttpRequestParser(BehindProxy(self) if self._all.is_proxy(self.peer) else self)
        if self._all.stopping:
            self._end()

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        self._ended = self._over = True
        self._all.held -= self._held + sum(_WAITING_BYTES + len(request[2]) for request in self._waiting)
        self._held = 0
        self._waiting.clear()
        self._all.gone(self)

    def data_received(self, data: bytes) -> None:
        if len(data) <= PIECE:
            self._feed(data)
            return
        for start in range(0, len(data), PIECE):
            self._feed(data[start : start + PIECE])

    def _feed(self, data: bytes) -> None:
        if self._ended:
            return
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._end()
            return
        except httptools.HttpParserError:
            self._all.counters[Counter.REQUESTS_MALFORMED] += 1
            self._refuse(_BAD)
            return
        if self._in_request:
            self._hold()

    def _hold(self) -> None:
        """A request is not whole yet: bound what there is of it, and what there is of all of them."""
        if self._received > (self._largest_body() if self._in_body else self._all.limits.header_bytes):
            self._all.counters[Counter.REQUESTS_MALFORMED] += 1
            self._refuse(_TOO_LARGE)
            return
        more, self._held = self._received - self._held, self._received
        self._take(more)

    def _take(self, count: int) -> None:
        if not self._all.take(count):
            self._refuse(OVERLOADED)

    def eof_received(self) -> bool:
        """A peer that has said all may still wait for answers; TLS cannot be closed on one side."""
        self._end()
        return not self._over and self._transport is not None and self._transport.get_extra_info("sslcontext") is None

    def pause_writing(self) -> None:
        self._choked = True
        self._since = self._all.now

    def resume_writing(self) -> None:
        self._choked = False
        self._pump()

    def check_time(self, now: float) -> None:
        """Close when out of time: a request or an answer on its way has `request_seconds`, silence has `idle_seconds`.

        How long an answer may take to be made is the front's to bound.
        """
        if self._transport is None:  # its TLS handshake is the gate's to bound
            return
        limits = self._all.limits
        busy = self._in_request or self._choked or self._over
        # The clock of connections moves with each sweep: what is told in seconds is kept to within one, and never cut short.
        if self._answering or now - self._since < SWEEP_SECONDS + (limits.request_seconds if busy else limits.idle_seconds):
            return
        if busy:
            self._all.counters[Counter.TIMEOUTS] += 1
        self._ended = self._over = True
        self._transport.abort()

    def finish(self) -> None:
        """Close now if nothing is under way, else with the answer to what is."""
        if self._transport is None:  # its TLS handshake is not done; see connection_made
            return
        if self._in_request:
            self._last = True
        else:
            self._end()

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
        self._whole()

    def _whole(self) -> None:
        """Head or body is complete: the next is counted from nothing."""
        self._received = 0
        if self._held:
            self._all.held -= self._held
            self._held = 0

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        self._in_request = False
        self._whole()
        if self._ended:
            return
        body = b"".join(self._body) if len(self._body) != 1 else self._body[0]
        if not body and self._parser.should_upgrade():  # the parser takes a body, if there is one, for the other protocol
            self._refuse(_UPGRADE)
            return
        if self._last or not self._parser.should_keep_alive():
            self._ended = True
        if not (self._answering or self._choked or self._waiting):
            self._serve(self._parser.get_method(), self._url, body, self.peer)
            return
        self._waiting.append((self._parser.get_method(), self._url, body, self.peer))
        self._take(_WAITING_BYTES + len(body))
        if len(self._waiting) >= MAX_PIPELINED:
            self._pause()

    def _largest_body(self) -> int:
        """Of the path being asked; what is of no path is read as far as the smallest, to be told so."""
        return _LARGEST_BODY.get(_split(self._url)[0], messages.MAX_TICKET_REQUEST)

    # Answers.

    def _serve(self, method: bytes, url: bytes, body: bytes, peer: str) -> None:
        self._answering = True
        try:
            if url == _TICKET_URL and method == b"POST" and len(body) <= messages.MAX_TICKET_REQUEST:
                self._all.front.ticket(body, peer, self._answer)
            else:
                self._route(method, url, body, peer)
        except Exception as e:  # noqa: BLE001 - the parser, which calls us, would turn any of ours into bad HTTP of the peer's
            self._failed(e)

    def _route(self, method: bytes, url: bytes, body: bytes, peer: str) -> None:
        path, query = _split(url)
        largest = _LARGEST_BODY.get(path)
        form = body if method == b"POST" else query
        if method not in (b"POST", b"GET"):
            self._answer(b"", _METHOD_OF_HEAD if method == b"HEAD" else _METHOD)
        elif largest is None:
            self._answer(b"", NOT_FOUND)
        elif len(form) > largest:
            self._answer(b"", _TOO_LARGE)
        elif path == messages.TICKET_PATH:
            self._all.front.ticket(form, peer, self._answer)
        else:
            self._all.front.admin(path, form, peer, self._answer)

    def _failed(self, error: Exception) -> None:
        """A bug, or a disk that is full: said without the error's text, which may hold anything."""
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""
        log.error("a request failed here", extra={"error": type(error).__name__, "where": where})
        self._ended = True
        if self._answering:
            self._answer(b"", _FAILED)
        else:
            self._end()

    def _answer(self, body: bytes, status: Status | None) -> None:
        self._answering = False
        transport = self._transport
        if transport is None or self._over:
            return
        self._since = self._all.now
        if status is None and not self._ended:
            transport.write(_OK % (len(body), body))
        else:
            self._write(transport, body, status, last=self._ended and not self._waiting and self._refusal is None)
        if not self._pumping and (self._waiting or self._ended or self._paused):
            self._pump()

    @staticmethod
    def _write(transport: asyncio.Transport, body: bytes, status: Status | None, *, last: bool) -> None:
        line, body, kind = (*status, _TEXT) if status is not None else (b"200 OK", body, JSON)
        transport.write(_ANY % (line, kind, len(body), _CLOSE if last else b"", body))

    def _pump(self) -> None:
        """Serve what waited, one after the other; an answer given at once comes back into this loop, not into a deeper one."""
        self._pumping = True
        while self._waiting and not (self._answering or self._choked or self._over):
            request = self._waiting.popleft()
            self._all.held -= _WAITING_BYTES + len(request[2])
            self._serve(*request)
        self._pumping = False
        if self._waiting or self._answering or self._over:
            return
        if self._ended:
            self._hang_up()
        elif self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def _pause(self) -> None:
        if not self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def _refuse(self, status: Status) -> None:
        """End with this, once what came before it is answered."""
        self._refusal = status
        self._end()

    def _end(self) -> None:
        """Read no more, and close when everything that was asked is answered."""
        self._ended = True
        if self._answering or self._waiting:
            self._pause()
        elif not self._over:
            self._hang_up()

    def _hang_up(self) -> None:
        transport, self._over = self._transport, True
        if transport is None:
            return
        if self._refusal is not None:
            self._write(transport, b"", self._refusal, last=True)
        transport.close()


def _split(url: bytes) -> tuple[str, bytes]:
    """Path and query of a request target; a target that is no URL has no path."""
    try:
        parsed = httptools.parse_url(url)
        return (parsed.path or b"").decode("ascii"), parsed.query or b""
    except (httptools.HttpParserError, UnicodeDecodeError):
        return "", b""


def busy_reply() -> bytes:
    """What a connection over the limit gets before it is closed."""
    line, text = _BUSY
    return _ANY % (line, _TEXT, len(text), _CLOSE, text)
