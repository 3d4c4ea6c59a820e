"""What can be done with a demo that was left running: commands to paste into any shell of this machine."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from cubeauth_cli.demo.stage import SERVICE, TICKET_LIFETIME, Stage

SAY_HELLO = (
    'import socket; s = socket.create_connection(("127.0.0.1", {port})); '
    's.sendall(b"hello\\n"); print(s.recv(99).decode(), end="")'
)
"""`nc` is not everywhere; the interpreter that runs this is."""


@dataclass(frozen=True)
class Hint:
    """about: what for; command: a line of shell."""

    about: str
    command: str

    def __str__(self) -> str:
        return f"\n{self.about}:\n    {self.command}"


def hints(stage: Stage) -> list[Hint]:
    """The last one ends it."""
    folder, pids = shlex.quote(str(stage.folder)), " ".join(str(player.process.pid) for player in stage.players)
    ticket = [f"-host=127.0.0.1:{stage.authnode_port}", f"-keyfile={stage.keys}/ltptest-authkey.json"]
    ticket += [f"-output={stage.folder}/ticket.json", "getticket", SERVICE]
    apply = ["-f", str(stage.manifests), "--authnode", stage.endpoint]
    apply += ["--admin-key", str(stage.admin_key), "--keys", str(stage.keys)]
    talk = SAY_HELLO.format(port=stage.client_port)
    return [
        Hint("Talk to the service through both sidecars", shlex.join([sys.executable, "-c", talk])),
        Hint(f"Get a ticket (here it lives for {TICKET_LIFETIME} seconds)", _cubeauth("authtool", "ticket", *ticket)),
        Hint("Change manifests and apply them", _cubeauth("apply", *apply)),
        Hint("Watch who is refused", f"tail -f {folder}/*-audit.log"),
        Hint("End it", f"kill {pids} && sleep 1 && rm -r {folder}"),
    ]


def _cubeauth(*arguments: str) -> str:
    """The command as this interpreter has it: `cubeauth` need not be on the PATH."""
    installed = Path(sys.executable).with_name("cubeauth")
    program = [str(installed)] if installed.exists() else [sys.executable, "-m", "cubeauth_cli.main"]
    return shlex.join([*program, *arguments])
