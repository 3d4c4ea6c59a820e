"""A real Authnode for tests: processes of cubeauth_authnode, on free ports, in a folder of their own, gone afterwards.

    with running_authnode(tmp_path) as authnode:
        grant = authnode.ticket(authnode.service_key_file, "AuthService")
        authnode.admin(grant, "createkey", {...})

Clients here are the protocol core's client half over plain sockets, so that
what is tested is the server.
"""

from __future__ import annotations

import http.client
import json
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from tests.support.waiting import wait_for

from cubeauth import entropy, exchange, messages, strictjson
from cubeauth.exchange import TicketGrant
from cubeauth.keys import KEY_BYTES, KeyFile, parse_key_file
from cubeauth.messages import ROUTE_OF_WORD
from cubeauth.secret import SecretBytes

STOP_SECONDS = 20.0


def new_key_file(principal: str) -> KeyFile:
    return KeyFile(principal, SecretBytes(entropy.system(KEY_BYTES)))


def encoded_caps(*api: str, owner_vol: tuple[str, ...] = ()) -> str:
    """A capability list as admin requests carry it."""
    return strictjson.b64encode(strictjson.dumps({"API": list(api), "OwnerVOL": list(owner_vol)}).encode())


@dataclass
class Authnode:
    """One Authnode's folder, and its processes while they run. program: the module that is started, and words before its -c."""

    folder: Path
    service_key_file: KeyFile
    settings: dict[str, Any]
    process: subprocess.Popen[bytes] | None = None
    host: str = "127.0.0.1"
    port: int = 0
    metrics_port: int = 0
    tls: ssl.SSLContext | None = None
    starts: list[dict[str, Any]] = field(default_factory=list)
    program: tuple[str, ...] = ("cubeauth_authnode",)

    @property
    def config(self) -> Path:
        return self.folder / "authnode.yaml"

    @property
    def log(self) -> str:
        return (self.folder / "stderr.log").read_text()

    @property
    def audit_lines(self) -> list[dict[str, Any]]:
        path = self.folder / "audit.log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def endpoint(self) -> str:
        return f"{self.host}:{self.port}"

    # Its life.

    def start(self, *arguments: str, wait: bool = True) -> None:
        """Start it; with `wait` return once it listens, else at once."""
        said = len(self.log) if (self.folder / "stderr.log").exists() else 0
        with (self.folder / "stderr.log").open("ab") as log:
            command = [sys.executable, "-m", *self.program, "-c", str(self.config), *arguments]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder)
        if not wait:
            return
        line = wait_for("the Authnode to listen", lambda: self._listening(said))
        self.port = int(line["address"].rpartition(":")[2])
        self.metrics_port = line["metrics"]
        self.starts.append(line)

    def _listening(self, said: int) -> dict[str, Any] | None:
        assert self.process is not None
        for line in self.log[said:].splitlines():
            if line.startswith("{") and '"listening"' in line:
                found: dict[str, Any] = json.loads(line)
                return found
        if self.process.poll() is not None:
            raise AssertionError(f"the Authnode ended with {self.process.returncode}:\n{self.log[said:]}")
        return None

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Kill the parent, and wait until its workers are gone too."""
        assert self.process is not None
        workers = self.worker_pids()
        self.process.send_signal(number)
        self.process.wait(STOP_SECONDS)
        wait_for("the workers to end", lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))

    def stop(self) -> int:
        """Ask it to stop; its exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def worker_pids(self) -> list[int]:
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()] if children.exists() else []

    # Asking it.

    def request(
        self, path: str, body: bytes, *, method: str = "POST", headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Status and body of one request on a connection of its own (so that it may reach any worker)."""
        if self.tls is not None:
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                self.host, self.port, timeout=20, context=self.tls
            )
        else:
            connection = http.client.HTTPConnection(self.host, self.port, timeout=20)
        try:
            all_headers = {"Content-Type": messages.CONTENT_TYPE_FORM, **(headers or {})}
            connection.request(method, path, body=body, headers=all_headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def ticket(self, key_file: KeyFile, service_id: str, *, now: float | None = None) -> TicketGrant:
        """Raises ServerRefused."""
        sent = exchange.ask_ticket(
            key_file.id, key_file.auth_key, service_id, now=time.time() if now is None else now, entropy=entropy.system
        )
        return exchange.accept_ticket(sent, self.request(messages.TICKET_PATH, sent.body)[1])

    def admin(self, grant: TicketGrant, word: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Raises ServerRefused."""
        route = ROUTE_OF_WORD[word]
        sent = exchange.ask_access(grant, route.type, {route.payload: payload}, now=time.time(), entropy=entropy.system)
        return exchange.accept_access(sent, self.request(route.path, sent.body)[1])

    def create(self, grant: TicketGrant, principal: str, role: str, *api: str, owner_vol: tuple[str, ...] = ()) -> KeyFile:
        """Make a key and give it as a key file."""
        caps = encoded_caps(*api, owner_vol=owner_vol)
        made = self.admin(grant, "createkey", {"id": principal, "role": role, "caps": caps})["key_info"]
        return parse_key_file(json.dumps(made))

    def admin_grant(self) -> TicketGrant:
        """A ticket for AuthService in the built-in principal's name."""
        return self.ticket(self.service_key_file, "AuthService")

    def metric(self, name: str) -> float:
        """One value of /metrics, by its whole name without labels."""
        with urllib.request.urlopen(f"http://{self.host}:{self.metrics_port}/metrics", timeout=20) as response:
            for line in response.read().decode().splitlines():
                if line.startswith(f"{name} "):
                    return float(line.split()[1])
        raise AssertionError(f"no metric {name}")


def prepare(folder: Path, **settings: Any) -> Authnode:
    """A folder with keys and configuration, nothing started. settings: members of the YAML, over the defaults here."""
    folder.mkdir(parents=True, exist_ok=True)
    service_key = new_key_file("AuthService")
    for name, key in (("service.json", service_key), ("root.json", new_key_file("RootKey"))):
        path = folder / name
        path.write_text(key.to_json())
        path.chmod(0o600)
    members = {
        "listen": "127.0.0.1:0",
        "metrics": "127.0.0.1:0",
        "storeDir": str(folder / "store"),
        "witnessDir": str(folder / "witness"),
        "rootKeyFile": str(folder / "root.json"),
        "serviceKeyFile": str(folder / "service.json"),
        "auditFile": str(folder / "audit.log"),
        "workers": 2,
        "replayEntries": 65536,
        **settings,
    }
    authnode = Authnode(folder, service_key, members)
    authnode.config.write_text(yaml.safe_dump(members))
    return authnode


@contextmanager
def running_authnode(folder: Path, **settings: Any) -> Iterator[Authnode]:
    """Prepared and started; stopped, or killed where it does not stop, at the end."""
    authnode = prepare(folder, **settings)
    try:
        authnode.start()
        yield authnode
    finally:
        if authnode.process is not None and authnode.process.poll() is None:
            status = authnode.stop()
            if status != 0:
                sys.stderr.write(f"the Authnode ended with {status}:\n{authnode.log}\n")
