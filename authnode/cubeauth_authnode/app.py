"""The Authnode's parent process: opens everything, refuses to start on what is wrong, and ends in order."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
import socket
from dataclasses import dataclass
from pathlib import Path

import uvloop

from cubeauth import __version__, entropy, messages
from cubeauth.errors import InputError
from cubeauth.messages import AdminRoute
from cubeauth_authnode import config as configuration
from cubeauth_authnode import metrics, replay, settings, supervisor
from cubeauth_authnode.admin import AdminDesk, Facts, Refused
from cubeauth_authnode.authority import Authority
from cubeauth_authnode.config import AuthnodeConfig
from cubeauth_authnode.directory import Directory
from cubeauth_authnode.keystore.base import KeystoreUnusable
from cubeauth_authnode.keystore.filesystem import FolderUnusable
from cubeauth_authnode.keystore.sqlite import SqliteKeystore
from cubeauth_authnode.keystore.writer import GroupWriter
from cubeauth_authnode.proof import Policy, ProofChecker, auth_service_record
from cubeauth_authnode.replay import ReplayCache
from cubeauth_authnode.shared import Board
from cubeauth_authnode.supervisor import Supervisor
from cubeauth_authnode.tls import make_context
from cubeauth_runtime import logs
from cubeauth_runtime.audit import Audit
from cubeauth_runtime.clock import Clock, SystemClock
from cubeauth_runtime.endpoint import Endpoint

log = logging.getLogger("cubeauth.authnode")

STORE_FILE = "keystore.db"
WITNESS_FILE = "witness.json"


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says beside the file."""

    accept_older_store: bool = False


def open_keystore(config: AuthnodeConfig, *, now: float, accept_older: bool = False) -> SqliteKeystore:
    """Own and check the store that `config` names. Raises KeystoreUnusable, InputError."""
    try:
        return SqliteKeystore.open(
            config.store / STORE_FILE,
            root_key=config.root_key,
            witness=config.witness / WITNESS_FILE,
            now=int(now),
            accept_older=accept_older,
        )
    except FolderUnusable as e:
        setting = config.witness_setting if e.folder == config.witness else "storeDir"
        raise InputError(setting, f"{e.folder} {e.problem}", e.remedy, source=config.source) from None


def run(path: Path, options: Options | None = None) -> int:
    """Serve until told to stop; the exit status. Raises InputError and KeystoreUnusable for what refuses a start."""
    config = configuration.load(path)
    logs.set_up(config.log_level)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve(config, options or Options(), SystemClock()))
    except InputError as e:
        raise e.located(str(path)) from None


def _say(config: AuthnodeConfig) -> None:
    """What a person should know of this configuration."""
    if config.without_meaning:
        log.info("settings without meaning here: %s", ", ".join(config.without_meaning))
    if config.root_key_beside_store:
        log.warning(
            "the root key lies in the configuration beside the store: keys at rest are safe from who gets the store alone, "
            "not from who can read this machine's disk; name a rootKeyFile elsewhere"
        )
    if config.tls is None:
        log.warning("no TLS: tickets and their requests can be read on the way; the keys in them cannot")


def _set_limits() -> None:
    """Of this process and its workers: as many descriptors as there may be, and no core file, which would hold every key."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _make_folder(folder: Path) -> None:
    """Stock makes its log folder; so do we. Raises InputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise InputError("auditFile", f"the folder {folder} cannot be made: {e.strerror}", "make it, or name another") from None


async def _serve(config: AuthnodeConfig, options: Options, clock: Clock) -> int:
    _say(config)
    _set_limits()
    told = settings.of_config(config)
    if config.tls is not None:
        make_context(config.tls)  # workers would find the same, one after the other
    if config.audit is not None:
        _make_folder(config.audit.parent)
    sockets = supervisor.listen(config.host, config.port, config.workers)
    store = open_keystore(config, now=clock.now(), accept_older=options.accept_older_store)
    try:
        opening = replay.prepare(
            told.replay, entries=config.replay_entries, skew=config.skew, now=clock.now(), new_store=store.sequence == 0
        )
        if not opening.kept and opening.not_before:
            log.warning("replay table begun anew (%s): proofs made before %d s from now are refused", opening.reason, config.skew)
        return await _Authnode(config, store, clock).serve(sockets, told)
    finally:
        store.close()


class _Authnode:
    """The parent with its store open."""

    def __init__(self, config: AuthnodeConfig, store: SqliteKeystore, clock: Clock) -> None:
        self._config = config
        self._store = store
        self._clock = clock
        self._stop = asyncio.Event()
        self._failure = ""
        self._audit = Audit(config.audit)
        self._replay = ReplayCache(config.store / settings.REPLAY_FILE, skew=config.skew)
        self._directory = Directory(store.records(), store.sequence)

    def _fatal(self, why: str | KeystoreUnusable) -> None:
        log.critical("the Authnode ends: %s", why)
        self._failure = self._failure or str(why)
        self._stop.set()

    async def serve(self, sockets: list[socket.socket], told: settings.WorkerSettings) -> int:
        board, board_fd = Board.create()
        self._supervisor = Supervisor(
            sockets,
            self._directory,
            settings.encode(told),
            board=board,
            board_fd=board_fd,
            handle_admin=self._handle_admin,
            on_fatal=self._fatal,
            clock=self._clock,
            entropy=entropy.system,
        )
        endpoint = await self._open_endpoint(board)
        writer = GroupWriter(self._store, self._clock, on_changes=self._supervisor.publish, on_fatal=self._fatal)
        self._desk = self._make_desk(writer, told.policy)
        self._handle_signals()
        await self._supervisor.start()
        host, port = sockets[0].getsockname()[:2]
        log.info(
            "listening",
            extra={
                "address": f"{host}:{port}",
                "tls": told.tls is not None,
                "metrics": endpoint.port if endpoint else 0,
                "keys": len(self._directory),
                "keystore": self._store.keystore_id,
                "sequence": self._store.sequence,
            },
        )
        await self._stop.wait()
        log.info("stopping")
        await self._supervisor.stop()
        await writer.close()
        if endpoint is not None:
            await endpoint.close()
        self._audit.close()
        self._replay.mark_clean()
        self._replay.close()
        return 1 if self._failure else 0

    def _make_desk(self, writer: GroupWriter, policy: Policy) -> AdminDesk:
        auth_service = auth_service_record(self._config.service_key)
        proofs = ProofChecker(self._replay, policy, entropy.system)
        authority = Authority(self._directory, auth_service, proofs)
        facts = Facts(self._store.keystore_id, __version__)
        return AdminDesk(self._directory, authority, writer.submit, facts, entropy.system)

    async def _handle_admin(self, route: AdminRoute, form: bytes, peer: str) -> str:
        """Answer and audit one admin request; a refusal is a reply too."""
        now = self._clock.now()
        try:
            done = await self._desk.answer(route, form, now)
        except Refused as e:
            self._audit.write(route.word, "refused", peer, now, reason=e.error.reason.value, **e.facts)
            reply = messages.refusal(e.error)
        else:
            ignored = {"ignored": list(done.ignored)} if done.ignored else {}
            self._audit.write(route.word, "done", peer, now, client=done.caller, target=done.target, **ignored)
            reply = done.reply
        self._audit.flush()
        return reply

    async def _open_endpoint(self, board: Board) -> Endpoint | None:
        if self._config.metrics is None:
            return None
        registry = metrics.make_registry(board, self._config.workers, self._gauges)
        endpoint = Endpoint(registry, live=lambda: self._failure, ready=self._not_ready)
        await endpoint.start(*self._config.metrics)
        return endpoint

    def _not_ready(self) -> str:
        if self._stop.is_set():
            return "stopping"
        if int(self._clock.now()) <= self._replay.not_before:
            return "the replay table was lost: proofs are refused until the skew has passed"
        missing = self._supervisor.wanted - self._supervisor.ready
        return f"{missing} of {self._supervisor.wanted} workers are not serving" if missing else ""

    def _gauges(self) -> dict[str, tuple[str, float]]:
        now = self._clock.now()
        return {
            "keys": ("keys in the store", len(self._directory)),
            "sequence": ("number of the last write", self._store.sequence),
            "workers_ready": ("workers that accept connections", self._supervisor.ready),
            "worker_restarts": ("workers replaced since the start", self._supervisor.restarts),
            "replay_entries": ("proofs remembered", self._replay.used(now)),
            "clock_behind_seconds": (
                "how far the clock was set back, while proofs are refused for it",
                self._replay.clock_behind(now),
            ),
            "replay_capacity": ("proofs that can be remembered", self._replay.capacity),
        }

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)

    def _reload(self) -> None:
        try:
            self._audit.reopen()
        except InputError as e:
            log.error("audit file not reopened: %s", e)
        self._supervisor.reload()
