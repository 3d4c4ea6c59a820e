"""The stage: a folder with keys and configurations, the processes that play, and their words to read back."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from cubeauth import entropy
from cubeauth.errors import CubeauthError
from cubeauth.keys import KEY_BYTES, KeyFile, parse_key_file
from cubeauth.secret import SecretBytes
from cubeauth_client.authnode import Authnode
from cubeauth_client.endpoints import EndpointSet, parse_endpoints
from cubeauth_runtime import files
from cubeauth_runtime.clock import SystemClock

T = TypeVar("T")

PATIENCE = 15.0
"""Seconds for a process to start or to write its audit line."""

TICKET_LIFETIME = 6
"""Seconds: short enough that one expires before the audience leaves."""

LISTENER = "data"
CAPABILITY = "data:write:access"
SERVICE = "DatanodeService"


class DemoFailed(CubeauthError):
    """A step did not end as it must."""


@dataclass
class Player:
    """A process of the demo. log: what it says; empty for the service."""

    name: str
    process: Process
    log: Path


class Stage:
    """Makes everything under `folder`, starts the processes in the process group `group`, and ends them."""

    def __init__(self, folder: Path, examples: Path, group: int) -> None:
        self.folder = folder
        self.group = group
        self.examples = examples
        self.manifests = folder / "manifests"
        self.leaver = self.manifests / "40-leaver.yaml"
        self.keys = folder / "keys"
        self.admin_key = folder / "authservice.json"
        self.players: list[Player] = []
        self.authnode_port = 0
        self.service_port = 0
        self.secured_port = 0
        self.client_port = 0
        self.tampered_port = 0

    def lay_out(self) -> None:
        """Keys of the Authnode, manifests to change, folders."""
        self.keys.mkdir(mode=0o700)
        self.manifests.mkdir()
        for manifest in sorted(self.examples.glob("*.yaml")):
            (self.manifests / manifest.name).write_text(manifest.read_text())
        for name, principal in (("root.json", "RootKey"), ("authservice.json", "AuthService")):
            made = KeyFile(principal, SecretBytes(entropy.system(KEY_BYTES)))
            files.write_atomically(self.folder / name, made.to_json().encode())

    def key_path(self, name: str) -> Path:
        """The key file that `cubeauth apply` writes, by the AuthKey's name."""
        return self.keys / f"{name}-authkey.json"

    def key_file(self, name: str) -> KeyFile:
        """What is in it."""
        return parse_key_file(files.read_text(self.key_path(name)))

    def client(self) -> Authnode:
        """The client library's end of our Authnode."""
        return Authnode(EndpointSet(parse_endpoints([self.endpoint])), clock=SystemClock())

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.authnode_port}"

    # Starting.

    def _write(self, name: str, members: dict[str, Any]) -> Path:
        path = self.folder / name
        files.write_atomically(path, yaml.safe_dump(members, sort_keys=False).encode())
        return path

    async def _play(self, name: str, *arguments: str, stdout: int = DEVNULL) -> Player:
        log = self.folder / f"{name}.log"
        with log.open("ab") as stderr:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", *arguments, stdin=DEVNULL, stdout=stdout, stderr=stderr, process_group=self.group
            )
        player = Player(name, process, log)
        self.players.append(player)
        return player

    async def start_authnode(self) -> None:
        config = self._write(
            "authnode.yaml",
            {
                "listen": "127.0.0.1:0",
                "storeDir": str(self.folder / "store"),
                "witnessDir": str(self.folder / "witness"),
                "rootKeyFile": str(self.folder / "root.json"),
                "serviceKeyFile": str(self.admin_key),
                "auditFile": str(self.folder / "authnode-audit.log"),
                "ticket": {"lifetime": f"{TICKET_LIFETIME}s"},
            },
        )
        player = await self._play("authnode", "cubeauth_authnode", "-c", str(config))
        self.authnode_port = (await self._listening(player, 1))[0]

    async def start_service(self) -> None:
        player = await self._play("service", "cubeauth_cli.demo.service", stdout=PIPE)
        assert player.process.stdout is not None
        line = await asyncio.wait_for(player.process.stdout.readline(), PATIENCE)
        self.service_port = int(line)

    async def start_accepting(self) -> None:
        """The sidecar beside the service: peers with the right ticket go on to it."""
        accept = {
            "name": LISTENER,
            "listen": "127.0.0.1:0",
            "forward": f"127.0.0.1:{self.service_port}",
            "service": SERVICE,
            "capability": CAPABILITY,
        }
        self.secured_port = (await self._sidecar("sidecar-service", "datanode-service", {"accept": [accept]}, 1))[0]

    async def start_connecting(self, tampered_peer: int) -> None:
        """The sidecar beside the client: plain on loopback, secured to the peer, once straight and once by the middleman."""
        entry = {"listen": "127.0.0.1:0", "service": SERVICE}
        connect = [
            {"name": LISTENER, "peer": f"127.0.0.1:{self.secured_port}", **entry},
            {"name": "tampered", "peer": f"127.0.0.1:{tampered_peer}", **entry},
        ]
        self.client_port, self.tampered_port = await self._sidecar("sidecar-client", "ltptest", {"connect": connect}, 2)

    async def _sidecar(self, name: str, key: str, entries: dict[str, Any], listeners: int) -> list[int]:
        common = {
            "keyFile": str(self.key_path(key)),
            "authnode": {"endpoints": [self.endpoint]},
            "auditFile": str(self.folder / f"{name}-audit.log"),
        }
        config = self._write(f"{name}.yaml", common | entries)
        return await self._listening(await self._play(name, "cubeauth_sidecar", "-c", str(config)), listeners)

    async def _listening(self, player: Player, count: int) -> list[int]:
        """The ports that a process says it listens on, `count` of them."""

        def ports() -> list[int] | None:
            lines = [json.loads(line) for line in player.log.read_text().splitlines() if line.startswith("{")]
            found = [int(line["address"].rpartition(":")[2]) for line in lines if line["message"] == "listening"]
            return found if len(found) >= count else None

        return await self.until(f"{player.name} listens", ports, player)

    async def until(self, what: str, attempt: Callable[[], T | None], player: Player | None = None) -> T:
        """Wait for a condition. Raises DemoFailed at the deadline, or when the player has died."""
        for _ in range(int(PATIENCE / 0.02)):
            found = attempt()
            if found is not None:
                return found
            if player is not None and player.process.returncode is not None:
                raise DemoFailed(f"{player.name} ended with {player.process.returncode}; see {player.log}")
            await asyncio.sleep(0.02)
        raise DemoFailed(f"waited {PATIENCE:g} s until {what}")

    # Reading back.

    def audit(self, name: str) -> list[dict[str, Any]]:
        """All audit lines of `authnode`, or of a sidecar by its name."""
        path = self.folder / f"{name}-audit.log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    async def audit_line(self, name: str, *outcomes: str, since: int = 0) -> dict[str, Any]:
        """The first audit line with one of `outcomes`, after the `since` first ones."""

        def told() -> dict[str, Any] | None:
            return next((line for line in self.audit(name)[since:] if line["outcome"] in outcomes), None)

        return await self.until(f"{name}'s audit says {' or '.join(outcomes)}", told)

    async def refused_line(self, name: str, since: int, reason: str) -> dict[str, Any]:
        """The audit line of a refusal, which must give `reason`. Raises DemoFailed for another one."""
        line = await self.audit_line(name, "refused", "failed", since=since)
        if line.get("reason") != reason:
            raise DemoFailed(f"{name} should have refused with {reason}, and says {line.get('reason')}")
        return line

    # Ending.

    async def clear(self) -> None:
        """End every process that is left, the last one first."""
        for player in reversed(self.players):
            if player.process.returncode is None:
                player.process.terminate()
            try:
                await asyncio.wait_for(player.process.wait(), PATIENCE)
            except TimeoutError:
                player.process.kill()
                await player.process.wait()
        self.players.clear()
