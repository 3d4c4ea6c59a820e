"""Bytes, half-closes and resets through two real sidecar processes, from a plain client to a plain daemon."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from collections.abc import Iterator

import pytest
from tests.support.sidecar import Daemon, SidecarProcess, dial, is_reset, read_all, reset, running_site, turned_away
from tests.support.waiting import wait_for

LARGE = 10 * 1024 * 1024
BUFFERS = 4 * 1024 * 1024
"""Far above what two sidecars and five sockets hold between a writer and a reader that reads nothing."""


class Line:
    """A client's way to a daemon."""

    def __init__(self, daemon: Daemon, acceptor: SidecarProcess, connector: SidecarProcess) -> None:
        self.daemon = daemon
        self.acceptor = acceptor
        self.connector = connector
        self.port = connector.ports["out"]

    def open(self) -> tuple[socket.socket, socket.socket]:
        """A client's socket, and the daemon's of the same connection."""
        client = dial(self.port)
        return client, self.daemon.accept()

    def quiet(self) -> None:
        """Every connection has ended on both sidecars."""
        for sidecar in (self.connector, self.acceptor):
            wait_for("no connection to be open", lambda s=sidecar: s.metric("connections_open") == 0)  # type: ignore[misc]  # bound now


@pytest.fixture(scope="module", params=["sealed", "clear"])
def line(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    daemon = Daemon()
    mode = {"mode": request.param}
    with running_site(tmp_path_factory.mktemp("traffic")) as site:
        acceptor = site.acceptor(daemon.port, entry=mode)
        yield Line(daemon, acceptor, site.connector(acceptor.ports["guard"], entry=mode))
    daemon.close()


def test_a_question_and_its_answer(line: Line) -> None:
    client, daemon = line.open()
    with client, daemon:
        client.sendall(b"question")
        assert daemon.recv(100) == b"question"
        daemon.sendall(b"answer")
        assert client.recv(100) == b"answer"


def test_the_daemon_may_speak_first(line: Line) -> None:
    client, daemon = line.open()
    with client, daemon:
        daemon.sendall(b"welcome")
        assert client.recv(100) == b"welcome"


def _send(sock: socket.socket, data: bytes) -> threading.Thread:
    def run() -> None:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def test_ten_megabytes_both_ways_at_once(line: Line) -> None:
    forth, back = os.urandom(LARGE), os.urandom(LARGE)
    client, daemon = line.open()
    with client, daemon:
        senders = [_send(client, forth), _send(daemon, back)]
        found: dict[str, bytes] = {}
        reader = threading.Thread(target=lambda: found.update(back=read_all(client)), daemon=True)
        reader.start()
        found["forth"] = read_all(daemon)
        for thread in [*senders, reader]:
            thread.join()
    assert hashlib.sha256(found["forth"]).digest() == hashlib.sha256(forth).digest()
    assert hashlib.sha256(found["back"]).digest() == hashlib.sha256(back).digest()
    line.quiet()


def _fill(sock: socket.socket) -> int:
    """Write until nobody takes any more for a second; bytes taken."""
    sock.settimeout(1.0)
    taken = 0
    try:
        while True:
            taken += sock.send(b"x" * 65536)
    except TimeoutError:
        return taken


@pytest.mark.parametrize("writer", ["client", "daemon"])
def test_a_reader_that_stops_holds_up_the_writer_and_nothing_is_lost(line: Line, writer: str) -> None:
    client, daemon = line.open()
    source, sink = (client, daemon) if writer == "client" else (daemon, client)
    with source, sink:
        taken = _fill(source)
        memory = [_memory(sidecar) for sidecar in (line.acceptor, line.connector)]
        assert max(memory) < 120 * 1024 * 1024
        source.settimeout(30)
        received = 0
        while received < taken:
            received += len(sink.recv(65536))
        source.sendall(b"and on")
        assert sink.recv(100) == b"and on"
    line.quiet()


def _memory(sidecar: SidecarProcess) -> int:
    """Bytes resident."""
    assert sidecar.process is not None
    with open(f"/proc/{sidecar.process.pid}/statm") as f:
        return int(f.read().split()[1]) * 4096


def test_the_end_of_the_question_is_not_the_end_of_the_answer(line: Line) -> None:
    client, daemon = line.open()
    with client, daemon:
        client.sendall(b"question")
        client.shutdown(socket.SHUT_WR)
        assert read_all(daemon) == b"question"
        daemon.sendall(b"a long answer")
        daemon.close()
        assert read_all(client) == b"a long answer"
    line.quiet()
    line.acceptor.audited(outcome="closed", reason="complete", from_peer=8, to_peer=13)


def test_the_daemon_may_end_first(line: Line) -> None:
    client, daemon = line.open()
    with client, daemon:
        daemon.sendall(b"that was all")
        daemon.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"that was all"
        client.sendall(b"thanks")
        client.close()
        assert read_all(daemon) == b"thanks"
    line.quiet()


def test_a_reset_of_the_client_is_a_reset_at_the_daemon(line: Line) -> None:
    client, daemon = line.open()
    with daemon:
        client.sendall(b"x")
        assert daemon.recv(1) == b"x"
        reset(client)
        assert is_reset(daemon)
    line.quiet()


def test_a_reset_of_the_daemon_is_a_reset_at_the_client(line: Line) -> None:
    client, daemon = line.open()
    with client:
        client.sendall(b"x")
        assert daemon.recv(1) == b"x"
        reset(daemon)
        assert is_reset(client)
    line.quiet()


def test_a_connection_that_sends_nothing_ends_well_too(line: Line) -> None:
    client, daemon = line.open()
    client.close()
    with daemon:
        assert read_all(daemon) == b""
    line.quiet()


def test_hundreds_of_connections_leave_no_descriptor_behind(line: Line) -> None:
    line.quiet()
    sidecars = (line.acceptor, line.connector)
    before = [sidecar.descriptors() for sidecar in sidecars]
    for _ in range(10):
        pairs = [line.open() for _ in range(20)]
        for client, _daemon in pairs:
            client.sendall(b"hello")
        for number, (client, daemon) in enumerate(pairs):
            if number % 3 == 0:
                reset(client)
            else:
                client.close()
            daemon.close()
    line.quiet()
    wait_for("the sockets to be closed", lambda: [s.descriptors() for s in sidecars] <= before)


def test_connections_that_end_as_soon_as_they_begin_lose_nothing(line: Line) -> None:
    for number in range(60):
        sent = os.urandom(number * 997)
        client = dial(line.port)
        client.sendall(sent)
        client.close()
        with line.daemon.accept() as daemon:
            daemon.shutdown(socket.SHUT_WR)
            assert hashlib.sha256(read_all(daemon)).digest() == hashlib.sha256(sent).digest()
    line.quiet()


def test_bytes_are_counted_by_direction(line: Line) -> None:
    line.quiet()
    before = [line.acceptor.metric("bytes_total", direction=direction) for direction in ("from_peer", "to_peer")]
    client, daemon = line.open()
    with client, daemon:
        client.sendall(b"12345")
        assert daemon.recv(5) == b"12345"
        daemon.sendall(b"123")
        assert client.recv(3) == b"123"
        after = [line.acceptor.metric("bytes_total", direction=direction) for direction in ("from_peer", "to_peer")]
    assert [b - a for a, b in zip(before, after, strict=True)] == [5, 3]


def test_clear_mode_is_named_in_log_and_metrics(line: Line) -> None:
    for sidecar, listener in ((line.acceptor, "guard"), (line.connector, "out")):
        is_clear = sidecar.metric("listener_clear", listener=listener) == 1
        assert is_clear == ("mode clear" in sidecar.log)
        assert is_clear == (sidecar.settings.get("accept", sidecar.settings.get("connect"))[0]["mode"] == "clear")  # type: ignore[index]  # one of them


# Last, because the daemon goes.
def test_a_daemon_that_is_down_is_a_reset_for_the_client(line: Line) -> None:
    line.daemon.close()
    assert turned_away(line.port)
    line.quiet()
    line.acceptor.audited(outcome="failed", reason="daemon_down", client="writer")
    assert line.acceptor.metric("dial_failures_total", listener="guard") == 1
