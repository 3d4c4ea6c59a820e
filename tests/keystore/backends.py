"""The backends that the contract is checked on, and what tests say to each of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from cubeauth.caps import Capabilities
from cubeauth.ids import Role
from cubeauth.secret import SecretBytes
from cubeauth_authnode.keystore.base import Change, ChangeKind, CreateKey, ImportKey, Keystore, Write
from cubeauth_authnode.keystore.sqlite import SqliteKeystore

ROOT_KEY = SecretBytes(bytes(range(32)))
NOW = 1_700_000_000
MASTER = Capabilities(("master:getvol:access",))


class Backend(Protocol):
    """One store that can be opened again and again."""

    def open(self, *, now: int = NOW, accept_older: bool = False) -> Keystore: ...

    def everything(self) -> bytes:
        """All that the closed store has put anywhere, to look for secrets in."""
        ...


class SqliteBackend:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "store" / "keystore.db"
        self.witness = folder / "witness" / "keystore.json"

    def open(self, *, now: int = NOW, accept_older: bool = False, root_key: SecretBytes = ROOT_KEY) -> SqliteKeystore:
        return SqliteKeystore.open(self.path, root_key=root_key, witness=self.witness, now=now, accept_older=accept_older)

    def everything(self) -> bytes:
        files = [*self.path.parent.iterdir(), *self.witness.parent.iterdir()]
        return b"".join(file.read_bytes() for file in files if file.is_file())


BACKENDS: dict[str, Callable[[Path], Backend]] = {"sqlite": SqliteBackend}


def create(principal: str, capabilities: Capabilities = MASTER) -> CreateKey:
    return CreateKey(principal, Role.CLIENT, capabilities)


def imported(principal: str, *, access_key: str = "A" * 16, create_ts: int = 1_600_000_000, key: bytes = b"k" * 32) -> ImportKey:
    secret = SecretBytes(b"s" * 32 if access_key else b"")
    return ImportKey(principal, Role.SERVICE, MASTER, SecretBytes(key), access_key, secret, create_ts)


def do(store: Keystore, write: Write, *, now: int = NOW) -> Change:
    """One write by itself. Raises the KeystoreError that is its outcome."""
    (outcome,) = store.apply([write], now=now)
    if isinstance(outcome, Change):
        return outcome
    raise outcome


def put(store: Keystore, principal: str, *, now: int = NOW) -> Change:
    change = do(store, create(principal), now=now)
    assert change.kind is ChangeKind.PUT
    return change
