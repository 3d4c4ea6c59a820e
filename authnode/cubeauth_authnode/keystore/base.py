"""What every keystore is: the contract that the service relies on and tests/keystore/ checks for each backend.

A store is one linear history of writes. Each write is atomic, is durable
before it returns, and moves the write sequence up by one. An id that was
deleted leaves a tombstone: its kvno and create_ts go on rising if it is made
anew, so that no ticket and no key of the earlier one is ever good again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from cubeauth.caps import Capabilities
from cubeauth.errors import CubeauthError
from cubeauth.ids import Role
from cubeauth.keys import KeyRecord


class KeystoreError(CubeauthError):
    """The store cannot do what was asked; the text is for the operator's log."""


class KeyExists(KeystoreError):
    """An id or access key that is there already."""


class KeyUnknown(KeystoreError):
    """An id or access key that is not there, or was deleted."""


class KeystoreUnusable(KeystoreError):
    """The store must not be used: damaged, owned by another process, of a newer schema, rolled back, on a network file system."""


class ChangeKind(StrEnum):
    PUT = "put"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Change:
    """One acknowledged write: `sequence` is the write sequence after it; `record` is there for PUT."""

    sequence: int
    kind: ChangeKind
    id: str
    record: KeyRecord | None


@dataclass(frozen=True, slots=True)
class Creation:
    """What is asked of `create`; the store fills in kvno, create_ts, auth_key, access_key and secret_key.

    auth_key, access_key, secret_key and create_ts are given by an import only.
    """

    id: str
    role: Role
    capabilities: Capabilities
    imported: KeyRecord | None = None


class Keystore(Protocol):
    """One owner, one writer at a time; methods block, so a caller with an event loop uses a thread for the writes."""

    @property
    def keystore_id(self) -> str:
        """Made once with the store, never again."""
        ...

    @property
    def sequence(self) -> int:
        """The number of the last write."""
        ...

    def __iter__(self) -> Iterator[KeyRecord]:
        """Every live record."""
        ...

    def get(self, principal: str) -> KeyRecord:
        """Raises KeyUnknown."""
        ...

    def find_access_key(self, access_key: str) -> KeyRecord:
        """Raises KeyUnknown."""
        ...

    def create(self, creation: Creation, *, now: int) -> Change:
        """Raises KeyExists."""
        ...

    def delete(self, principal: str) -> tuple[Change, KeyRecord]:
        """The change, and the record that was. Raises KeyUnknown."""
        ...

    def set_capabilities(self, principal: str, capabilities: Capabilities) -> Change:
        """Raises KeyUnknown."""
        ...

    def close(self) -> None: ...
