"""Real sidecar processes for tests, and the plain ends around them.

    with running_authnode(folder) as authnode:
        site = Site(folder, authnode)
        acceptor = site.acceptor(forward=daemon.address)
        connector = site.connector(peer=acceptor.address)

Ports are the system's choice and read from the log. Everything is killed by
its own pid at the end.
"""

from __future__ import annotations

import contextlib
import json
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from tests.support.authnode import Authnode, running_authnode
from tests.support.waiting import PATIENCE, wait_for

from cubeauth import entropy
from cubeauth.channel import ClientChannel
from cubeauth.events import Event
from cubeauth.exchange import TicketGrant
from cubeauth.keys import KeyFile
from cubeauth.phases import Mode

SERVICE = "DatanodeService"
CAPABILITY = "data:write:access"
CLIENT = "writer"


@dataclass
class SidecarProcess:
    """One `python -m cubeauth_sidecar`."""

    folder: Path
    settings: dict[str, Any]
    process: subprocess.Popen[bytes] | None = None
    ports: dict[str, int] = field(default_factory=dict)
    health: int = 0

    @property
    def config(self) -> Path:
        return self.folder / "sidecar.yaml"

    @property
    def log(self) -> str:
        path = self.folder / "stderr.log"
        return path.read_text() if path.exists() else ""

    @property
    def audit_text(self) -> str:
        path = self.folder / "audit.log"
        return path.read_text() if path.exists() else ""

    @property
    def audit(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.audit_text.splitlines()]

    def audited(self, **facts: Any) -> dict[str, Any]:
        """The first audit line with these facts, waited for."""
        return wait_for(
            f"an audit line with {facts}; there is {self.audit_text or 'none'}",
            lambda: next((line for line in self.audit if facts.items() <= line.items()), None),
        )

    def start(self, *, ready: bool = True) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config.write_text(yaml.safe_dump(self.settings))
        said = len(self.log)
        with (self.folder / "stderr.log").open("ab") as log:
            command = [sys.executable, "-m", "cubeauth_sidecar", "-c", str(self.config)]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder)
        wait_for("the sidecar to start", lambda: self._started(said))
        if ready:
            wait_for("the sidecar to be ready", lambda: self.ready()[0] == 200)

    def _started(self, said: int) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"the sidecar ended with {self.process.returncode}:\n{self.log[said:]}")
        for line in (json.loads(text) for text in self.log[said:].splitlines() if text.startswith("{")):
            if line["message"] == "listening":
                self.ports[line["listener"]] = int(line["address"].rpartition(":")[2])
            if line["message"] == "started":
                self.health = line["health"]
                return True
        return False

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health}{path}", timeout=PATIENCE) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as e:
            with e:
                return e.code, e.read().decode()

    def ready(self) -> tuple[int, str]:
        return self.get("/readyz")

    def metric(self, name: str, **labels: str) -> float:
        """The sum of what has these labels; 0 where there is none."""
        total = 0.0
        for line in self.get("/metrics")[1].splitlines():
            series, _, value = line.rpartition(" ")
            if series.partition("{")[0] == f"cubeauth_sidecar_{name}" and all(f'{k}="{v}"' in series for k, v in labels.items()):
                total += float(value)
        return total

    def descriptors(self) -> int:
        assert self.process is not None
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def send(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def ended(self) -> int:
        """Its exit status, waited for."""
        assert self.process is not None
        return self.process.wait(PATIENCE)

    def stop(self) -> int:
        if self.process is not None and self.process.poll() is None:
            self.send(signal.SIGTERM)
        return self.ended()

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class Site:
    """Keys at an Authnode, sidecars that use them, and their end. keys: of every principal made, by id."""

    def __init__(self, folder: Path, authnode: Authnode) -> None:
        self.folder = folder
        self.authnode = authnode
        self.sidecars: list[SidecarProcess] = []
        self.keys: dict[str, KeyFile] = {}
        self._grant = authnode.admin_grant()
        self.make(SERVICE, "service")
        self.make(CLIENT, "client", CAPABILITY)

    def make(self, principal: str, role: str, *capabilities: str) -> KeyFile:
        """A key at the Authnode, and its key file."""
        made = self.authnode.create(self._grant, principal, role, *capabilities)
        self.keys[principal] = made
        self.key_path(principal).write_text(made.to_json())
        return made

    def key_path(self, principal: str) -> Path:
        return self.folder / f"{principal}.json"

    def settings(self, principal: str, name: str, **members: Any) -> dict[str, Any]:
        return {
            "keyFile": str(self.key_path(principal)),
            "authnode": {"endpoints": [self.authnode.endpoint]},
            "health": "127.0.0.1:0",
            "auditFile": str(self.folder / name / "audit.log"),
            **members,
        }

    def acceptor(
        self, forward: int, *, name: str = "acceptor", entry: dict[str, Any] | None = None, ready: bool = True, **members: Any
    ) -> SidecarProcess:
        """Guards the daemon on the port `forward`; its listener is `guard`."""
        guard = {
            "name": "guard",
            "listen": "127.0.0.1:0",
            "forward": f"127.0.0.1:{forward}",
            "service": SERVICE,
            "capability": CAPABILITY,
            **(entry or {}),
        }
        return self.run(name, self.settings(SERVICE, name, accept=[guard], **members), ready=ready)

    def connector(
        self,
        peer: int,
        *,
        name: str = "connector",
        principal: str = CLIENT,
        entry: dict[str, Any] | None = None,
        ready: bool = True,
        **members: Any,
    ) -> SidecarProcess:
        """Goes out to the secured port `peer`; its listener is `out`."""
        out = {"name": "out", "listen": "127.0.0.1:0", "peer": f"127.0.0.1:{peer}", "service": SERVICE, **(entry or {})}
        return self.run(name, self.settings(principal, name, connect=[out], **members), ready=ready)

    def run(self, name: str, settings: dict[str, Any], *, ready: bool = True) -> SidecarProcess:
        sidecar = SidecarProcess(self.folder / name, settings)
        self.sidecars.append(sidecar)
        sidecar.start(ready=ready)
        return sidecar

    def close(self) -> None:
        for sidecar in self.sidecars:
            sidecar.kill()


def dial(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


class Daemon:
    """The plain process behind an acceptor, played by the test: what it accepts is a socket to read and write."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(PATIENCE)
        self.port: int = self._listening.getsockname()[1]

    def accept(self) -> socket.socket:
        accepted, _ = self._listening.accept()
        accepted.settimeout(PATIENCE)
        return accepted

    def waiting(self) -> bool:
        """Whether somebody has connected that was not accepted yet."""
        return bool(select.select([self._listening], [], [], 0)[0])

    def close(self) -> None:
        self._listening.close()


class Middleman:
    """Between two sidecars: passes on what comes, through `touch(direction, data)`, which may change it or raise Cut."""

    def __init__(self, target: int, touch: Callable[[str, bytes], bytes]) -> None:
        self._target = target
        self._touch = touch
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            far = dial(self._target)
            self._sockets += [near, far]
            for direction, source, sink in (("c2s", near, far), ("s2c", far, near)):
                self._threads.append(threading.Thread(target=self._pump, args=(direction, source, sink)))
                self._threads[-1].start()

    def _pump(self, direction: str, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError, Cut):
            while data := source.recv(65536):
                sink.sendall(self._touch(direction, data))
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for sock in [self._listening, *self._sockets]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for sock in [self._listening, *self._sockets]:
            sock.close()


class Cut(Exception):
    """Pass on nothing more in this direction: its stream ends here."""


def read_all(sock: socket.socket) -> bytes:
    """Everything until the end of the stream."""
    found = bytearray()
    while data := sock.recv(65536):
        found += data
    return bytes(found)


def reset(sock: socket.socket) -> None:
    """Close with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def is_reset(sock: socket.socket) -> bool:
    """Whether the stream ends with RST and not with FIN; what still comes before is thrown away."""
    try:
        while sock.recv(65536):
            pass
    except ConnectionResetError:
        return True
    return False


def turned_away(port: int) -> bool:
    """Whether whoever connects here is reset, be it while connecting."""
    try:
        with dial(port) as sock:
            return is_reset(sock)
    except ConnectionResetError:
        return True


def present(port: int, grant: TicketGrant, *, mode: Mode = Mode.SEALED) -> tuple[list[Event], bytes]:
    """A handshake with a secured port by a client of our own: its events, and all bytes that came back until it was decided."""
    channel = ClientChannel(grant, mode, entropy.system, time.time())
    events: list[Event] = []
    came = bytearray()
    channel.start()
    with dial(port) as sock:
        while not events:
            sock.sendall(b"".join(channel.data_to_send()))
            data = sock.recv(65536)
            came += data
            events = channel.receive_data(data, time.time()) if data else channel.receive_eof(time.time())
        with contextlib.suppress(OSError):
            sock.sendall(b"".join(channel.data_to_send()))  # our first record
    return events, bytes(came)


@contextlib.contextmanager
def running_site(folder: Path, **authnode_settings: Any) -> Iterator[Site]:
    """An Authnode with keys for two sidecars; all of it gone afterwards."""
    with running_authnode(folder / "authnode", **authnode_settings) as authnode:
        site = Site(folder, authnode)
        try:
            yield site
        finally:
            site.close()
