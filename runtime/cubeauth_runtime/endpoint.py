"""The metrics and health port of a process, apart from what it serves (protocol-v1, section 11 rule 12).

GET /metrics in Prometheus' text form, /livez and /readyz as 200 or 503 with
one line. aiohttp serves it; it is small, and knows no secret. What aiohttp does
not bound is bounded at the door: how many connections there may be, and how
long one may last, so that a scraper that says nothing cannot keep its place.
Whoever reaches the port can send what is no request: that writes nothing into
the log, and the answer says neither what came nor whose software this is.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any, cast

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from cubeauth.errors import InputError

log = logging.getLogger("cubeauth.endpoint")

Check = Callable[[], str]
"""Gives "" when all is well, else one line that says what is not."""

MAX_HEADER_BYTES = 8190
MAX_CONNECTIONS = 64
"""Scrapers and probes are few."""

SERVER = "cubeauth"
"""The Server header: without it aiohttp names its version and Python's."""

CONNECTION_SECONDS = 30.0
"""From connecting to being cut off, whatever happened in between; who comes every minute connects anew."""


class Endpoint:
    """Serves `registry` and the two checks until `close`. collect: run before each scrape, to bring gauges up to date."""

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        live: Check,
        ready: Check,
        collect: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._registry = registry
        self._collect = collect
        app = web.Application(client_max_size=1024)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/livez", self._check(live))
        app.router.add_get("/readyz", self._check(ready))
        app.router.add_get("/healthz", self._check(ready))
        app.on_response_prepare.append(_name_server)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0, handle_signals=False)
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self, host: str, port: int, *, field: str = "metrics") -> None:
        """Listen. Raises InputError naming the setting `field` where the address cannot be had."""
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(lambda: _Arrival(self._serve), host or None, port, backlog=64)
        except OSError as e:
            await self._runner.cleanup()
            problem = f"cannot listen on {host or '*'}:{port}: {said(e)}"
            raise InputError(field, problem, "free the address, or choose another of this host") from None
        self.port = self._server.sockets[0].getsockname()[1]

    def _serve(self, transport: asyncio.Transport) -> None:
        server = self._runner.server
        if server is None or len(server.connections) >= MAX_CONNECTIONS:
            transport.abort()
            return
        handler = _Connection(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # what aiohttp's own runner passes for none
            keepalive_timeout=CONNECTION_SECONDS,
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
        )
        transport.set_protocol(handler)
        handler.connection_made(transport)
        asyncio.get_running_loop().call_later(CONNECTION_SECONDS, transport.abort)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        await self._runner.cleanup()

    async def _metrics(self, _request: web.Request) -> web.Response:
        if self._collect is not None:
            await self._collect()
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    @staticmethod
    def _check(check: Check) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(_request: web.Request) -> web.Response:
            problem = check()
            return web.Response(text=f"{problem or 'ok'}\n", status=503 if problem else 200)

        return answer


def said(error: OSError) -> str:
    """Why an address cannot be had; asyncio's own text repeats the address."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error.strerror or error)


async def _name_server(_request: web.BaseRequest, response: web.StreamResponse) -> None:
    response.headers["Server"] = SERVER


class _Connection(web.RequestHandler):
    """aiohttp's own logs a traceback for every request that is none, and sends the request's bytes back."""

    __slots__ = ()

    def log_exception(self, *args: Any, **_kw: Any) -> None:
        """What else aiohttp trips over, such as a body that breaks off, is the other side's doing too."""
        log.debug("a connection to the metrics and health port was ended: %s", args[0])

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002 - aiohttp's signature
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it holds what came
    ) -> web.StreamResponse:
        if status >= 500:
            log.error("a request to the metrics and health port failed", exc_info=exc)
        text = "internal error\n" if status >= 500 else "bad request\n"
        answer = web.Response(status=status, text=text, headers={"Server": SERVER})
        answer.force_close()
        return answer


class _Arrival(asyncio.Protocol):
    """A connection until it is known whether it may come in."""

    def __init__(self, serve: Callable[[asyncio.Transport], None]) -> None:
        self._serve = serve

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._serve(cast(asyncio.Transport, transport))
