"""The metrics and health port of a process, apart from what it serves (protocol-v1, section 11 rule 12).

GET /metrics in Prometheus' text form, /livez and /readyz as 200 or 503 with
one line. aiohttp serves it; it is small, bounded, and knows no secret.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from cubeauth.errors import InputError

Check = Callable[[], str]
"""Gives "" when all is well, else one line that says what is not."""

MAX_HEADER_BYTES = 8190
KEEPALIVE = 15.0
"""Seconds; a scraper comes every 15 to 60."""


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
        self._runner = web.AppRunner(
            app,
            access_log=None,
            keepalive_timeout=KEEPALIVE,
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            handle_signals=False,
        )
        self.port = 0

    async def start(self, host: str, port: int, *, field: str = "metrics") -> None:
        """Listen. Raises InputError naming the setting `field` where the address cannot be had."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, host or None, port, backlog=64)
        try:
            await site.start()
        except OSError as e:
            await self._runner.cleanup()
            raise InputError(field, f"cannot listen on {host}:{port}: {e.strerror or e}") from None
        self.port = self._runner.addresses[0][1]

    async def close(self) -> None:
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
