"""The parent's side of the workers: starts them, tells them of writes, answers what they forward, replaces the dead.

Each worker has a listening socket of its own (SO_REUSEPORT, so that the
kernel spreads connections) which the parent holds too: connections that wait
on it survive the worker.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from cubeauth import messages, strictjson
from cubeauth.entropy import Entropy
from cubeauth.errors import InputError, LocalMisuse
from cubeauth.messages import AdminRoute
from cubeauth_authnode.directory import Directory
from cubeauth_authnode.keystore.base import Change
from cubeauth_authnode.link import MAX_UNSENT, NUMBER, SNAPSHOT_CHUNK, Kind, Link, record_to_json
from cubeauth_authnode.shared import Board
from cubeauth_runtime.clock import Clock
from cubeauth_runtime.tasks import TaskOwner

log = logging.getLogger("cubeauth.supervisor")

RESTARTS = 10
RESTART_WINDOW = 60.0
"""More than RESTARTS deaths in so many seconds: something is wrong that starting again does not mend."""

RESTART_DELAY = 0.2
"""Seconds, times 0.5 to 1.5 at random, before a worker is replaced."""

START_SECONDS = 60.0
"""How long a worker may take until it accepts connections; with 10,000 keys it takes half of one."""

STOP_SECONDS = 15.0
"""How long a worker may take to end after STOP, drain included, before it is killed."""

HandleAdmin = Callable[[AdminRoute, bytes, str], Awaitable[str]]
"""Answers one forwarded request: route, form, peer."""

OnFatal = Callable[[str], None]


def listen(host: str, port: int, count: int) -> list[socket.socket]:
    """`count` listening sockets on one address. Raises InputError where it cannot be had, by anyone's doing.

    A first socket without SO_REUSEPORT makes sure that nobody is there: with it alone, a second Authnode on one port would
    quietly share it.
    """
    family = socket.AF_INET6 if ":" in host or (not host and socket.has_dualstack_ipv6()) else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            _bind(probe, host, port)
            port = probe.getsockname()[1]
        sockets = []
        for _ in range(count):
            each = socket.socket(family, socket.SOCK_STREAM)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            _bind(each, host, port)
            each.setblocking(False)
            sockets.append(each)
    except OSError as e:
        problem = f"cannot listen on {host or '*'}:{port}: {e.strerror or e}"
        raise InputError("listen", problem, "free the address, or choose another of this host") from None
    return sockets


def _bind(each: socket.socket, host: str, port: int) -> None:
    if each.family is socket.AF_INET6 and not host:
        each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    each.bind((host or ("::" if each.family is socket.AF_INET6 else "0.0.0.0"), port))  # noqa: S104 - "" asks for all addresses


def _spawn(descriptors: tuple[int, int, int], number: int) -> Coroutine[Any, Any, Process]:
    # -P: modules come from where ours do, never from the folder that we were started in. A session of its own: a terminal's
    # Ctrl-C is the parent's to hear, also while a worker is not far enough to ignore it.
    return asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "cubeauth_authnode.worker",
        *map(str, descriptors),
        str(number),
        stdin=asyncio.subprocess.DEVNULL,
        pass_fds=descriptors,
        start_new_session=True,
    )


class Supervisor:
    """Keeps one worker per listening socket alive. on_fatal: called once when it cannot."""

    def __init__(
        self,
        sockets: list[socket.socket],
        directory: Directory,
        settings: bytes,
        *,
        board: Board,
        board_fd: int,
        handle_admin: HandleAdmin,
        on_fatal: OnFatal,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._sockets = sockets
        self._directory = directory
        self._settings = settings
        self.board = board
        self._board_fd = board_fd
        self._handle_admin = handle_admin
        self._on_fatal = on_fatal
        self._clock = clock
        self._entropy = entropy
        self._tasks = TaskOwner(lambda name, error: on_fatal(f"{name}: {error}"))
        self._workers: dict[int, _Worker] = {}
        self._deaths: list[float] = []
        self.restarts = 0
        self.stopping = False

    async def start(self) -> None:
        """Start all workers and wait until each accepts connections."""
        self.board.publish(self._directory.sequence)
        await asyncio.gather(*(self._start_one(number) for number in range(len(self._sockets))))

    @property
    def ready(self) -> int:
        """Workers that accept connections."""
        return sum(worker.ready.is_set() for worker in self._workers.values())

    @property
    def wanted(self) -> int:
        return len(self._sockets)

    async def _start_one(self, number: int) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        listening = self._sockets[number]
        with theirs:
            descriptors = (theirs.fileno(), listening.fileno(), self._board_fd)
            try:
                process = await _spawn(descriptors, number)
            except OSError as e:
                ours.close()
                self._on_fatal(f"a worker cannot be started: {e.strerror}")
                return
        worker = _Worker(number, process, self._forwarded, self._lost)
        await asyncio.get_running_loop().create_connection(lambda: worker.link, sock=ours)
        # From here to SERVE nothing waits, so no write comes in between the copy and the first change.
        worker.link.send(Kind.SETTINGS, self._settings)
        records = list(self._directory)
        for start in range(0, len(records), SNAPSHOT_CHUNK):
            chunk = [record_to_json(record) for record in records[start : start + SNAPSHOT_CHUNK]]
            worker.link.send(Kind.RECORDS, strictjson.dumps(chunk).encode("utf-8"))
        worker.link.send(Kind.SERVE, str(self._directory.sequence).encode("ascii"))
        self._workers[number] = worker
        try:
            await asyncio.wait_for(worker.started.wait(), START_SECONDS)
        except TimeoutError:
            log.error("worker does not start: it is replaced", extra={"worker": number})
        if not worker.ready.is_set():
            self._lost(worker)

    def publish(self, changes: list[Change]) -> None:
        """Tell everyone of durable writes, and only then move the counter: after this no answer is from before them."""
        for change in changes:
            self._directory.apply(change)
            told = {"sequence": change.sequence, "kind": change.kind.value, "record": record_to_json(change.record)}
            payload = strictjson.dumps(told).encode("utf-8")
            for worker in self._workers.values():
                worker.link.send(Kind.CHANGE, payload)
        self.board.publish(self._directory.sequence)
        for worker in self._workers.values():
            if worker.link.unsent > MAX_UNSENT:
                log.error("worker does not read its link: it is replaced", extra={"worker": worker.number})
                worker.process.kill()

    def reload(self) -> None:
        for worker in self._workers.values():
            worker.link.send(Kind.RELOAD)

    def _forwarded(self, worker: _Worker, payload: bytes) -> None:
        self._tasks.start("admin request", self._answer(worker, payload))

    async def _answer(self, worker: _Worker, payload: bytes) -> None:
        head = NUMBER.size + 2
        route, length = payload[NUMBER.size], payload[NUMBER.size + 1]
        peer = payload[head : head + length].decode("ascii")
        reply = await self._handle_admin(messages.ADMIN_ROUTES[route], payload[head + length :], peer)
        worker.link.send(Kind.ADMIN_REPLY, payload[: NUMBER.size] + reply.encode("utf-8"))

    def _lost(self, worker: _Worker) -> None:
        if not self.stopping and self._workers.get(worker.number) is worker:
            del self._workers[worker.number]
            self._tasks.start("replace worker", self._replace(worker))

    async def _replace(self, worker: _Worker) -> None:
        worker.process_gone()
        status = await worker.process.wait()
        now = self._clock.monotonic()
        self._deaths = [death for death in self._deaths if now - death < RESTART_WINDOW] + [now]
        log.error("worker ended, it is replaced", extra={"worker": worker.number, "status": status})
        if len(self._deaths) > RESTARTS:
            self._on_fatal(f"{len(self._deaths)} workers ended within {RESTART_WINDOW:g} s")
            return
        self.restarts += 1
        await asyncio.sleep(RESTART_DELAY * (0.5 + self._entropy(1)[0] / 255))
        if not self.stopping:
            await self._start_one(worker.number)

    async def stop(self) -> None:
        """Let every worker finish; kill what does not."""
        self.stopping = True
        for each in self._sockets:
            each.close()
        workers = list(self._workers.values())
        for worker in workers:
            worker.link.send(Kind.STOP)
        await asyncio.gather(*(worker.end(STOP_SECONDS) for worker in workers))
        await self._tasks.close()


class _Worker:
    """One worker as its parent sees it."""

    def __init__(
        self,
        number: int,
        process: Process,
        forwarded: Callable[[_Worker, bytes], None],
        lost: Callable[[_Worker], None],
    ) -> None:
        self.number = number
        self.process = process
        self.ready = asyncio.Event()
        self._forwarded = forwarded
        self.started = asyncio.Event()  # accepts connections, or died on the way
        self._lost = lost
        self.link = Link(self._message, self._link_lost)

    def _message(self, kind: Kind, payload: bytes) -> None:
        if kind is Kind.READY:
            self.ready.set()
            self.started.set()
        elif kind is Kind.ADMIN:
            self._forwarded(self, payload)
        else:
            raise LocalMisuse(f"message {kind.name} is not for the parent")

    def _link_lost(self) -> None:
        self.ready.clear()
        self.started.set()
        self._lost(self)

    def process_gone(self) -> None:
        """The link is lost: whatever is left of the process must not go on."""
        if self.process.returncode is None:
            self.process.kill()

    async def end(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self.process.wait(), seconds)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
        self.link.close()
