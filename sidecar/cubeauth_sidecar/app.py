"""A configuration file to a running sidecar, and its end in order."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
from pathlib import Path

import uvloop

from cubeauth import entropy
from cubeauth.errors import InputError
from cubeauth.phases import Mode
from cubeauth_runtime import logs
from cubeauth_runtime.audit import FLUSH_SECONDS, Audit
from cubeauth_runtime.clock import Clock, SystemClock
from cubeauth_runtime.endpoint import Endpoint
from cubeauth_runtime.tasks import TaskOwner
from cubeauth_sidecar import config as configuration
from cubeauth_sidecar import listeners
from cubeauth_sidecar.config import SidecarConfig
from cubeauth_sidecar.connection import Surroundings
from cubeauth_sidecar.credentials import Credentials
from cubeauth_sidecar.journal import Journal
from cubeauth_sidecar.metrics import Metrics
from cubeauth_sidecar.server import Server
from cubeauth_sidecar.socket_end import make_memory

log = logging.getLogger("cubeauth.sidecar")

OTHER_DESCRIPTORS = 128
"""Beside two sockets a connection: listeners, the health port, requests to the Authnode, the loop's own."""


def run(path: Path) -> int:
    """Serve until told to stop; the exit status. Raises InputError for what refuses a start."""
    config = configuration.load(path)
    logs.set_up(config.log_level)
    _raise_descriptor_limit(config)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(Sidecar(config, SystemClock()).serve())
        except InputError as e:
            raise e.located(config.source) from None


def _raise_descriptor_limit(config: SidecarConfig) -> None:
    needed = 2 * config.limits.connections + OTHER_DESCRIPTORS
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        problem = f"{config.limits.connections} need {needed} file descriptors, and this process may have {hard}"
        raise InputError("limits.connections", problem, "lower it, or raise the limit (ulimit -n)", source=config.source)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Sidecar:
    """One process's parts; serve() is its whole life."""

    def __init__(self, config: SidecarConfig, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._failure = ""

    async def serve(self) -> int:
        self._told = asyncio.Event()
        self._open()
        try:
            await self._start()
            await self._told.wait()
            await self._server.drain(self._config.drain)
        finally:
            await self._close()
        return 1 if self._failure else 0

    def _open(self) -> None:
        """Make every part; nothing listens and nobody is asked yet."""
        config = self._config
        self._metrics = Metrics()
        self._tasks = TaskOwner(self._fatal)
        self._audit = Audit(config.audit)
        self._journal = Journal(self._metrics, self._audit, self._clock)
        self._credentials = Credentials(config, self._metrics, clock=self._clock, entropy=entropy.system, on_death=self._fatal)
        around = Surroundings(
            self._clock,
            TaskOwner(lambda _name, _error: None),  # a connection's task takes that connection with it, not the process
            self._credentials,
            self._journal,
            make_memory(),
            config.limits.dial,
            config.limits.buffer,
        )
        self._listeners = listeners.all_of(config, entropy.system, self._credentials.unanswered_try)
        self._server = Server(self._listeners, config.limits, around, self._metrics)
        self._credentials.on_ticket = self._server.ticket_came
        self._endpoint = Endpoint(
            self._metrics.registry, live=lambda: self._failure, ready=self._not_ready, collect=self._collect
        )

    async def _start(self) -> None:
        self._handle_signals()
        if self._config.health is not None:
            await self._endpoint.start(*self._config.health, field="health")
        ports = await self._server.start()
        self._credentials.start()
        self._tasks.start("audit", self._flush())
        self._say(ports)

    async def _close(self) -> None:
        await self._credentials.close()
        await self._tasks.close()
        await self._endpoint.close()
        self._journal.flush()
        self._audit.close()

    def _say(self, ports: dict[str, int]) -> None:
        """What a person should know of this configuration."""
        for listener in self._listeners:
            kind = "secured" if listener.strangers else "plain"
            log.info(
                "listening",
                extra={
                    "listener": listener.name,
                    "address": listeners.shown((listener.address[0], ports[listener.name])),
                    "kind": kind,
                    "to": listeners.shown(listener.target),
                    "service": listener.service,
                    "mode": listener.mode.value,
                },
            )
            if listener.mode is Mode.CLEAR:
                log.warning("%s: mode clear: after the handshake its bytes are neither hidden nor guarded", listener.name)
            if listener.strangers and not configuration.is_loopback(listener.target[0]):
                log.warning("%s: forwards to %s, which is not loopback, in plain", listener.name, listener.target[0])
        log.info("started", extra={"id": self._config.client_id, "health": self._endpoint.port})

    def _not_ready(self) -> str:
        return "stopping" if self._told.is_set() else self._credentials.problem()

    async def _collect(self) -> None:
        self._server.collect()
        self._credentials.collect()

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            self._journal.flush()

    def _fatal(self, name: str, error: BaseException) -> None:
        self._failure = f"{name} died: {type(error).__name__}"
        self._stop()

    def _stop(self) -> None:
        """The first time: drain. The second: at once."""
        if self._told.is_set():
            self._server.cut()
        self._told.set()

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._reopen)

    def _reopen(self) -> None:
        """After the audit file was rotated."""
        try:
            self._audit.reopen()
        except InputError as e:
            log.error("audit file not reopened: %s", e)
        except OSError as e:
            self._journal.audit_failed(e)
