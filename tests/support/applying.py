"""Running `cubeauth apply`, and other commands, as a person does: a folder of manifests, a key folder, a real Authnode."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import stat
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tests.support.authnode import Authnode
from tests.support.command_line import Ran

from cubeauth.keys import KeyFile, parse_key_file
from cubeauth_cli.main import main
from cubeauth_resources.claims import Claims, parse_claims

CUBEAUTH = [sys.executable, "-m", "cubeauth_cli.main"]
JOURNAL = ".cubeauth-claims"

Tree = dict[str, tuple[str, bytes]]


def run(*argv: str | Path, stdin: str | None = None) -> Ran:
    """One command line in this process, its output caught."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.ExitStack() as caught:
        caught.enter_context(contextlib.redirect_stdout(out))
        caught.enter_context(contextlib.redirect_stderr(err))
        if stdin is not None:
            given, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(stdin.encode()))
            caught.callback(setattr, sys, "stdin", given)
        status = main([str(word) for word in argv])
    return Ran(status, out.getvalue(), err.getvalue())


def start(*argv: str | Path) -> subprocess.Popen[bytes]:
    """One command line in a process of its own, which the caller ends and waits for."""
    return subprocess.Popen(
        [*CUBEAUTH, *map(str, argv)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def tree(*folders: Path) -> Tree:
    """Everything in folders: path to mode and content. Locks, and what SQLite keeps for readers of a store, are no content."""
    found: Tree = {}
    for folder in folders:
        for path in sorted([folder, *folder.rglob("*")]):
            if path.exists() and not path.name.endswith((".lock", "-shm", "-wal")):
                mode = stat.filemode(path.lstat().st_mode)
                found[str(path)] = (mode, path.read_bytes() if path.is_file() else b"")
    return found


@dataclass
class Site:
    """authnode: the real one; address: how apply reaches it, which may be a proxy's."""

    authnode: Authnode
    folder: Path
    address: str = ""

    def __post_init__(self) -> None:
        self.address = self.address or self.authnode.endpoint
        self.manifests.mkdir(parents=True)

    @property
    def manifests(self) -> Path:
        return self.folder / "manifests"

    @property
    def keys(self) -> Path:
        return self.folder / "keys"

    @property
    def admin_key(self) -> Path:
        return self.authnode.folder / "service.json"

    @property
    def claims(self) -> Claims:
        return parse_claims((self.keys / JOURNAL).read_bytes())

    @property
    def sequence(self) -> int:
        """How many writes the keystore has seen."""
        state = self.authnode.admin(self.authnode.admin_grant(), "state", {})["state"]
        assert isinstance(state["sequence"], int)
        return state["sequence"]

    def write(self, name: str, *manifests: Mapping[str, Any]) -> Path:
        path = self.manifests / name
        path.write_text(yaml.safe_dump_all([dict(manifest) for manifest in manifests]))
        return path

    def argv(self, *more: str | Path) -> list[str | Path]:
        where: Iterable[str | Path] = ("--authnode", self.address, "--admin-key", self.admin_key, "--keys", self.keys)
        return ["apply", "-f", self.manifests, *where, *more]

    def apply(self, *more: str | Path) -> Ran:
        return run(*self.argv(*more))

    def applied(self, *more: str | Path) -> str:
        """What an apply said that left nothing undone."""
        ran = self.apply(*more)
        assert (ran.status, ran.err) == (0, ""), ran
        return ran.out

    def key_file(self, name: str) -> KeyFile:
        path = self.keys / f"{name}-authkey.json"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        return parse_key_file(path.read_text())

    def held(self, principal: str) -> KeyFile:
        """The key that the Authnode has."""
        grant = self.authnode.admin_grant()
        info = self.authnode.admin(grant, "getkey", {"id": principal})["key_info"]
        return parse_key_file(json.dumps(info | {"caps": base64.b64decode(info["caps"]).decode()}))

    def names(self) -> set[str]:
        """What lies in the key folder, the lock aside."""
        return {path.name for path in self.keys.iterdir() if not path.name.endswith(".lock")}
