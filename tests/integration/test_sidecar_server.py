"""The sidecar's server in this process, on both event loops: who does not hang up, who reads nothing, what is left behind."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from tests.support.f3 import UNIFORM_ERROR
from tests.support.waiting import until

from cubeauth import entropy, ticket
from cubeauth.channel import ClientChannel
from cubeauth.events import HandshakeCompleted
from cubeauth.exchange import TicketGrant
from cubeauth.keys import KeyFile
from cubeauth.phases import Mode
from cubeauth.secret import SecretBytes
from cubeauth_client.endpoints import parse_endpoints
from cubeauth_runtime.audit import Audit
from cubeauth_runtime.clock import SystemClock
from cubeauth_runtime.tasks import TaskOwner
from cubeauth_sidecar import listeners, socket_end
from cubeauth_sidecar.config import AcceptEntry, AuthnodeSettings, Limits, SidecarConfig
from cubeauth_sidecar.connection import Surroundings
from cubeauth_sidecar.credentials import Credentials
from cubeauth_sidecar.journal import Journal
from cubeauth_sidecar.metrics import Metrics
from cubeauth_sidecar.server import Server

SERVICE = KeyFile("DatanodeService", SecretBytes(entropy.system(32)))
CAPABILITY = "data:write:access"
LARGE, HIGH = 24 << 20, 64 << 20
"""Bytes: more than the kernel takes for a reader that does not read, and what may wait before the writer is held up."""


LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class Running:
    """An acceptor before a daemon that the test plays: `daemon` gets its streams."""

    def __init__(self, folder: Path) -> None:
        self.daemon: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        self.folder = folder
        self._writers: list[asyncio.StreamWriter] = []
        self.metrics = Metrics()
        self.deaths: list[str] = []
        self.tasks = TaskOwner(lambda name, _error: self.deaths.append(name))

    async def start(self) -> None:
        self._plain = await asyncio.start_server(self._reached, "127.0.0.1", 0)
        forward: int = self._plain.sockets[0].getsockname()[1]
        address = ("127.0.0.1", 0)
        entry = AcceptEntry(
            "accept[0]", "guard", address, ("127.0.0.1", forward), SERVICE.id, SERVICE.auth_key, CAPABILITY, Mode.SEALED
        )
        config = SidecarConfig(
            source="test",
            client_id=SERVICE.id,
            key=SERVICE.auth_key,
            authnode=AuthnodeSettings(parse_endpoints("127.0.0.1:1"), None),
            health=None,
            accept=(entry,),
            connect=(),
            limits=Limits(),
            grace=0,
            drain=0,
            audit=self.folder / "audit.log",
            log_level="info",
        )
        clock = SystemClock()
        self.audit = Audit(config.audit)
        self.credentials = Credentials(
            config, self.metrics, clock=clock, entropy=entropy.system, on_death=lambda name, _error: self.deaths.append(name)
        )
        around = Surroundings(
            clock, self.tasks, self.credentials, Journal(self.metrics, self.audit, clock), socket_end.make_memory(), 5.0, HIGH
        )
        made = listeners.all_of(config, entropy.system, self.credentials.unanswered_try)
        self.server = Server(made, config.limits, around, self.metrics)
        self.port = (await self.server.start())["guard"]

    async def _reached(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self.daemon.put_nowait((reader, writer))

    async def close(self) -> None:
        await self.server.drain(0)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)
        await self.tasks.close()
        await self.credentials.close()
        self._plain.close()
        await self._plain.wait_closed()
        self.audit.close()
        assert len(self.server) == 0
        assert len(self.tasks) == 0
        assert self.deaths == []

    def audited(self) -> list[dict[str, Any]]:
        """Audit lines of ends."""
        self.audit.flush()
        lines = [json.loads(line) for line in (self.folder / "audit.log").read_text().splitlines()]
        return [line for line in lines if line["outcome"] != "accepted"]

    def turned_away(self, reason: str) -> float:
        """Connections over that limit."""
        labels = {"listener": "guard", "outcome": "over_limit", "reason": reason}
        return self.metrics.registry.get_sample_value("cubeauth_sidecar_connections_total", labels) or 0

    async def stranger(self, address: str = "127.0.0.1") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection from `address` to the secured port, and nothing more."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(address, 0))
        self._writers.append(writer)
        return reader, writer

    async def peer(self) -> Peer:
        """A peer with a good ticket whose handshake is complete."""
        peer = Peer(*await self.stranger())
        await peer.shake_hands()
        return peer


class Peer:
    """The far end of a secured connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        now = int(time.time())
        made = ticket.Ticket(
            SERVICE.id, SecretBytes(entropy.system(32)), now, now + 100, "127.0.0.1", f'{{"API":["{CAPABILITY}"]}}', "writer"
        )
        text = ticket.seal(SERVICE.auth_key.reveal(), made, entropy.system)
        grant = TicketGrant("writer", SERVICE.id, text, made.session_key, made.c_time, made.exp)
        self.channel = ClientChannel(grant, Mode.SEALED, entropy.system, now)
        self.reader, self.writer = reader, writer

    async def shake_hands(self) -> None:
        self.channel.start()
        while True:
            self.flush()
            events = self.channel.receive_data(await self.reader.read(65536), time.time())
            if any(isinstance(event, HandshakeCompleted) for event in events):
                self.flush()
                return

    def flush(self) -> None:
        self.writer.writelines(self.channel.data_to_send())


def linger_reset(writer: asyncio.StreamWriter) -> None:
    """Close it with RST."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def on_both_loops(scene: Callable[[Running], Awaitable[None]]) -> Callable[[str, Path], None]:
    """A test of `scene`, once on each event loop, with a server of its own."""

    async def play(folder: Path) -> None:
        running = Running(folder)
        await running.start()
        try:
            await scene(running)
        finally:
            await running.close()

    @pytest.mark.parametrize("loop", LOOPS)
    def test(loop: str, tmp_path: Path) -> None:
        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(play(tmp_path))

    return test


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_end, "CLOSE_CHECK", 0.05)
    monkeypatch.setattr(socket_end, "CLOSE_STALLED", 0.2)


@on_both_loops
async def test_what_goes_through_leaves_no_connection_and_no_task(running: Running) -> None:
    peer = await running.peer()
    reader, writer = await running.daemon.get()
    peer.channel.send(b"question")
    peer.channel.close()
    peer.flush()
    assert await reader.read() == b"question"
    writer.close()
    await until("the connection to end", lambda: len(running.server) == 0)
    assert len(running.tasks) == 0


@on_both_loops
async def test_a_refused_stranger_reads_why_though_it_had_more_to_say(running: Running) -> None:
    reader, writer = await running.stranger()
    for _ in range(64):
        writer.write(b"x" * 16384)
        await writer.drain()
    assert await reader.read() == UNIFORM_ERROR
    writer.close()
    await until("the connection to end", lambda: len(running.server) == 0)


@pytest.mark.usefixtures("impatient")
@on_both_loops
async def test_a_refused_stranger_that_does_not_hang_up_is_hung_up_on(running: Running) -> None:
    reader, writer = await running.stranger()
    writer.write(b"GET / HTTP/1.1\r\n")
    assert await reader.read() == UNIFORM_ERROR
    await until("the connection to end", lambda: len(running.server) == 0)


@pytest.mark.usefixtures("impatient")
@on_both_loops
async def test_a_daemon_that_never_reads_what_was_left_for_it_is_given_up(running: Running) -> None:
    peer = await running.peer()
    _, writer = await running.daemon.get()
    writer.transport.pause_reading()  # type: ignore[attr-defined]  # a read transport too
    writer.write_eof()
    peer.channel.send(b"x" * LARGE)
    peer.channel.close()
    peer.flush()
    await until("the connection to end", lambda: len(running.server) == 0)
    assert [line["reason"] for line in running.audited()] == ["complete"]


@on_both_loops
async def test_peers_that_are_gone_while_the_daemon_is_dialed_leave_nothing(running: Running) -> None:
    for _ in range(50):
        peer = await running.peer()
        peer.writer.transport.abort()
    await until("the connections to end", lambda: len(running.server) == 0)
    assert len(running.tasks) == 0


@on_both_loops
async def test_a_stream_that_a_reset_cut_short_failed(running: Running) -> None:
    peer = await running.peer()
    reader, _ = await running.daemon.get()
    peer.channel.send(b"half")
    peer.flush()
    assert await reader.readexactly(4) == b"half"
    linger_reset(peer.writer)
    with pytest.raises(ConnectionResetError):
        await reader.read()
    await until("the connection to end", lambda: len(running.server) == 0)
    (line,) = running.audited()
    assert (line["outcome"], line["reason"]) == ("failed", "truncated")


@on_both_loops
async def test_silent_strangers_of_one_address_keep_nobody_else_out(running: Running) -> None:
    share, more = Limits().handshakes_per_peer, Limits().handshakes + 50
    silent = [await running.stranger("127.0.0.9") for _ in range(more)]
    await until("the rest to be turned away", lambda: running.turned_away("handshakes_per_peer") == more - share)
    assert len(running.server) == share
    await running.peer()
    await running.daemon.get()
    assert running.turned_away("handshakes") == 0
    for _, writer in silent:
        writer.transport.abort()
    await until("the silent to be gone", lambda: len(running.server) == 1)
    reader, writer = await running.stranger("127.0.0.9")  # its places are free again
    await Peer(reader, writer).shake_hands()
    await running.daemon.get()


@on_both_loops
async def test_a_peer_that_is_known_takes_no_place_among_the_handshakes_of_its_address(running: Running) -> None:
    for _ in range(Limits().handshakes_per_peer + 1):
        await running.peer()
        await running.daemon.get()
    assert running.turned_away("handshakes_per_peer") == 0


@on_both_loops
async def test_what_is_open_at_the_end_is_reset(running: Running) -> None:
    await running.peer()
    reader, _ = await running.daemon.get()
    await running.server.drain(0)
    with pytest.raises(ConnectionResetError):
        await reader.read()
    assert [line["reason"] for line in running.audited()] == ["stopped"]


# uvloop's create_connection, given up between connection_made and its return, closes the socket without connection_lost. That
# instant is too short to hit, so these two stand in for it.


def _hold_dials(monkeypatch: pytest.MonkeyPatch, dial: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Have `dial` in the place of the running loop's create_connection; the real one."""
    loop = asyncio.get_running_loop()
    real: Callable[..., Awaitable[Any]] = loop.create_connection
    monkeypatch.setattr(loop, "create_connection", dial)
    return real


class _Deaf(asyncio.Protocol):
    """Tells its protocol that the connection was made, and nothing more."""

    def __init__(self, inner: asyncio.BaseProtocol) -> None:
        self._inner = inner

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._inner.connection_made(transport)


async def test_a_dial_given_up_as_it_succeeds_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running = Running(tmp_path)
    await running.start()
    dialing = asyncio.Event()

    async def succeed_when_given_up(factory: Callable[[], asyncio.BaseProtocol], host: str, port: int) -> Any:
        dialing.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            transport, _ = await real(lambda: _Deaf(factory()), host, port)
            transport.abort()
            raise

    peer = Peer(*await running.stranger())
    real = _hold_dials(monkeypatch, succeed_when_given_up)
    await peer.shake_hands()
    await asyncio.wait_for(dialing.wait(), 30)
    peer.writer.transport.abort()
    await until("the connection to end", lambda: len(running.server) == 0)
    monkeypatch.undo()
    await running.close()


async def test_a_connection_that_is_over_before_its_dial_returned_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = Running(tmp_path)
    await running.start()
    over = asyncio.Event()

    async def return_late(*arguments: Any) -> Any:
        transport, protocol = await real(*arguments)
        try:
            await over.wait()
        except asyncio.CancelledError:
            transport.abort()
            raise
        return transport, protocol

    peer = Peer(*await running.stranger())
    real = _hold_dials(monkeypatch, return_late)
    await peer.shake_hands()
    reader, writer = await running.daemon.get()
    writer.write_eof()
    peer.channel.send(b"x" * LARGE)
    peer.channel.close()
    peer.flush()
    assert len(await reader.read()) == LARGE
    over.set()
    monkeypatch.undo()
    await running.close()
