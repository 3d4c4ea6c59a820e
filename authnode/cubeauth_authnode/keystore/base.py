"""What every keystore is: the contract that the service relies on and tests/keystore/ checks for each backend.

A store is one linear history of writes. `apply` takes a batch, because a
durable write costs a sync of the disk and a batch shares it (group commit);
inside a batch each write succeeds or fails by itself, is atomic, is durable
before `apply` returns, and moves the write sequence up by one. An id that was
deleted leaves a tombstone: its kvno and create_ts go on rising if it is made
anew, so that no ticket and no key of the earlier one is ever good again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from cubeauth.caps import Capabilities
from cubeauth.errors import CubeauthError
from cubeauth.ids import Role
from cubeauth.keys import KeyRecord
from cubeauth.secret import SecretBytes


class KeystoreError(CubeauthError):
    """The store cannot do what was asked; the text is one line for the operator's log and names no secret."""


class KeyExists(KeystoreError):
    """An id or access key that is there already."""


class KeyUnknown(KeystoreError):
    """An id or access key that is not there, or was deleted."""


class CapabilitiesRefused(KeystoreError):
    """What would be stored is over caps.MAX_CAPABILITIES, or no capability."""


class WriteInvalid(KeystoreError):
    """An id, key, access key or create_ts that no record can have."""


class KeystoreBusy(KeystoreError):
    """More writes are waiting than are taken; none of this one happened, and it may be tried again later."""


class KeystoreUnusable(KeystoreError):
    """The store must not be used: damaged, owned by another process, of a newer schema, rolled back, on a network file system."""


class KeystoreStalled(KeystoreUnusable):
    """Nothing could be written this time (a full disk, somebody's lock), and the store is as it was: later it may go again."""


@dataclass(frozen=True, slots=True)
class CreateKey:
    """Make a key: auth_key, access_key and secret_key at random, create_ts and kvno above any earlier one of this id."""

    id: str
    role: Role
    capabilities: Capabilities


@dataclass(frozen=True, slots=True)
class ImportKey:
    """Take a key over as it is, from a stock Authnode; refused where the id is there or was there, or the access key is there.

    access_key and secret_key are both empty for a key made before stock had them.
    """

    id: str
    role: Role
    capabilities: Capabilities
    auth_key: SecretBytes = field(repr=False)
    access_key: str
    secret_key: SecretBytes = field(repr=False)
    create_ts: int


@dataclass(frozen=True, slots=True)
class DeleteKey:
    id: str


class CapabilityChange(StrEnum):
    ADD = "add"
    REMOVE = "remove"
    SET = "set"


@dataclass(frozen=True, slots=True)
class ChangeCapabilities:
    """Add to, remove from or replace the capabilities of `id`, or of the key whose access key is `access_key`."""

    change: CapabilityChange
    capabilities: Capabilities
    id: str = ""
    access_key: str = ""


Write = CreateKey | ImportKey | DeleteKey | ChangeCapabilities


class ChangeKind(StrEnum):
    PUT = "put"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Change:
    """One durable write. sequence: the write sequence after it; record: as it is now (PUT) or as it was (DELETE)."""

    sequence: int
    kind: ChangeKind
    record: KeyRecord


class Keystore(Protocol):
    """One owner and one caller at a time; the methods block."""

    @property
    def keystore_id(self) -> str:
        """32 hexadecimal digits, made once with the store and never again."""
        ...

    @property
    def sequence(self) -> int:
        """The number of the last write; 0 in a new store."""
        ...

    def records(self) -> Iterator[KeyRecord]:
        """Every live record, opened and authenticated. Raises KeystoreUnusable naming the damaged row."""
        ...

    def get(self, principal: str) -> KeyRecord:
        """Raises KeyUnknown."""
        ...

    def find_access_key(self, access_key: str) -> KeyRecord:
        """Raises KeyUnknown."""
        ...

    def apply(self, writes: Sequence[Write], *, now: int) -> list[Change | KeystoreError]:
        """Do all writes in order in one durable step; the outcomes in the same order. now: unix seconds.

        Raises KeystoreStalled (disk full) or KeystoreUnusable (damage) where nothing could be made durable; then none of the
        batch happened. Where that cannot be told (a sync failed) the latter is raised too, this store takes no further write
        and shows none of the batch; opened again it has the whole batch or nothing of it.
        """
        ...

    def close(self) -> None: ...
