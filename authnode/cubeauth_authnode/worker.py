"""A worker process: answers ticket requests from memory, hands admin requests to the parent.

Started by the supervisor as `python -m cubeauth_authnode.worker` with the
numbers of three inherited descriptors: the link, the listening socket, the
board; and its own number. It ends at once when the parent is gone: without it
nobody would tell of deleted keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Callable

import uvloop

from cubeauth import entropy, strictjson
from cubeauth.errors import InputError
from cubeauth.keys import KeyRecord
from cubeauth_authnode import settings
from cubeauth_authnode.config import TlsFiles
from cubeauth_authnode.connections import Connections
from cubeauth_authnode.directory import Directory
from cubeauth_authnode.front import Front
from cubeauth_authnode.gate import Gate
from cubeauth_authnode.http import SWEEP_SECONDS
from cubeauth_authnode.keystore.base import Change, ChangeKind
from cubeauth_authnode.link import Kind, Link, record_from_json
from cubeauth_authnode.proof import ProofChecker, auth_service_record
from cubeauth_authnode.replay import ReplayCache
from cubeauth_authnode.shared import Board
from cubeauth_authnode.tickets import TicketDesk
from cubeauth_authnode.tls import Reloader
from cubeauth_runtime import logs
from cubeauth_runtime.audit import FLUSH_SECONDS, Audit
from cubeauth_runtime.clock import SystemClock
from cubeauth_runtime.tasks import TaskOwner

log = logging.getLogger("cubeauth.worker")

CERTIFICATE_SECONDS = 5.0
"""How often changed certificate files are looked for."""

DRAIN_SECONDS = 10.0
"""How long connections have to end after STOP."""


class Worker:
    """One worker's life: settings and the copy of the keys come in, then it serves until told to stop."""

    def __init__(self, listening: socket.socket, board: Board, number: int) -> None:
        self._listening = listening
        self._board = board
        self._counters = board.block(number)
        self._clock = SystemClock()
        self._records: list[KeyRecord] = []
        self._settings: settings.WorkerSettings | None = None
        self._ended = asyncio.get_running_loop().create_future()
        self._tasks = TaskOwner(self._task_died)
        self._audit: Audit | None = None
        self._gate: Gate | None = None
        self._stopping = False
        self.link = Link(self._message, self._parent_gone)

    def _task_died(self, _name: str, _error: BaseException) -> None:
        self._end(1)

    def _parent_gone(self) -> None:
        self._end(0 if self._stopping else 1)

    def _end(self, status: int) -> None:
        if not self._ended.done():
            self._ended.set_result(status)

    async def run(self) -> int:
        """The exit status."""
        status: int = await self._ended
        await self._tasks.close()
        if self._audit is not None:
            with contextlib.suppress(OSError):  # a disk that is full has been told of by the task that writes
                self._audit.close()
        return status

    def _message(self, kind: Kind, payload: bytes) -> None:
        match kind:
            case Kind.SETTINGS:
                self._settings = settings.decode(payload)
                logs.set_up(self._settings.log_level)
            case Kind.RECORDS:
                self._records += [record_from_json(members) for members in strictjson.loads(payload)]
            case Kind.SERVE:
                self._take_up(int(payload))
            case Kind.CHANGE:
                self._change(strictjson.load_object(payload))
            case Kind.ADMIN_REPLY:
                self._front.admin_reply(payload)
            case Kind.RELOAD:
                self._reload()
            case Kind.STOP:
                self._stopping = True
                self._tasks.start("stop", self._stop())
            case _:
                log.error("message %s is not for a worker", kind.name)
                self._end(1)

    def _change(self, members: dict[str, object]) -> None:
        record = record_from_json(strictjson.object_member(members, "record"))
        kind = ChangeKind(strictjson.text_member(members, "kind"))
        self._directory.apply(Change(strictjson.int_member(members, "sequence"), kind, record))
        self._front.caught_up()

    def _take_up(self, sequence: int) -> None:
        """The copy is whole. At once, because the changes that follow in the link are the next to be handled."""
        told = self._settings
        assert told is not None  # the supervisor sends settings first
        self._audit = Audit(told.audit)
        self._directory = Directory(self._records, sequence)
        self._records = []
        chance = entropy.pooled(entropy.system)
        proofs = ProofChecker(ReplayCache(told.replay, skew=told.policy.skew), told.policy, entropy.system)
        desk = TicketDesk(self._directory, auth_service_record(told.service_key), proofs, told.policy, chance)
        self._front = Front(
            desk,
            self.link,
            self._audit,
            self._clock,
            published=lambda: self._board.published,
            counters=self._counters,
            pending_limit=told.limits.pending_admin,
        )
        self._connections = Connections(self._front, told.limits, self._counters, told.trusted_proxies, self._clock.monotonic)
        self._serving = self._tasks.start("serve", self._serve(told.tls, self._audit))

    async def _serve(self, files: TlsFiles | None, audit: Audit) -> None:
        tls = Reloader(files) if files is not None else None
        self._gate = Gate(self._connections, tls, self._task_died)
        await self._gate.open(self._listening)
        self._tasks.start("sweep", self._every(SWEEP_SECONDS, self._sweep))
        self._tasks.start("audit", self._every(FLUSH_SECONDS, audit.flush))
        if tls is not None:
            self._tasks.start("certificates", self._every(CERTIFICATE_SECONDS, tls.check))
        self.link.send(Kind.READY)

    async def _every(self, seconds: float, work: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(seconds)
            work()

    def _sweep(self) -> None:
        self._connections.sweep()
        self._front.sweep()

    def _reload(self) -> None:
        try:
            if self._audit is not None:
                self._audit.reopen()
        except InputError as e:
            log.error("audit file not reopened: %s", e)
        if self._gate is not None and self._gate.tls is not None:
            self._gate.tls.check(force=True)

    async def _stop(self) -> None:
        await asyncio.wait({self._serving})
        if self._gate is not None:
            await self._gate.close()
        self._connections.stop()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._connections.empty.wait(), DRAIN_SECONDS)
        self._end(0)


def main(argv: list[str]) -> int:
    """argv: descriptor numbers of link, listening socket and board, and the worker's number."""
    link_fd, listen_fd, board_fd, number = map(int, argv)
    # The parent tells when to stop; a terminal's Ctrl-C reaches the whole group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    async def run() -> int:
        listening = socket.socket(fileno=listen_fd)
        worker = Worker(listening, Board(board_fd), number)
        await asyncio.get_running_loop().create_connection(lambda: worker.link, sock=socket.socket(fileno=link_fd))
        return await worker.run()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main(sys.argv[1:]))
