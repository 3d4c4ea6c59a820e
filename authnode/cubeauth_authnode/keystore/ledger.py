"""What the writes mean: pure decisions on what is there, the same for every backend.

An id is a live record, a tombstone, or was never heard of. A batch is planned
on top of the ledger without touching it; the backend makes the plan durable
and only then merges it, so that the view in memory is never ahead of the disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from cubeauth import caps, ids
from cubeauth.caps import Capabilities
from cubeauth.entropy import Entropy
from cubeauth.errors import InputError
from cubeauth.keys import ACCESS_KEY_LETTERS, KEY_BYTES, SECRET_KEY_LETTERS, KeyRecord, random_letters
from cubeauth.secret import SecretBytes
from cubeauth_authnode.keystore.base import (
    CapabilitiesRefused,
    CapabilityChange,
    Change,
    ChangeCapabilities,
    ChangeKind,
    CreateKey,
    DeleteKey,
    ImportKey,
    KeyExists,
    KeystoreError,
    KeyUnknown,
    Write,
    WriteInvalid,
)

MAX_CREATE_TS = 2**53 - 1
"""Of an imported key, unix seconds: the last number that every JSON reader holds exactly."""

MAX_SECRET_KEY_BYTES = 256
"""Of an imported key; stock makes 32 letters."""

UNKNOWN_ACCESS_KEY = "no key has this access key"


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What stays of a deleted id: nothing of its key."""

    id: str
    kvno: int
    create_ts: int


Entry = KeyRecord | Tombstone


@dataclass(frozen=True, slots=True)
class Floors:
    """New keys are above these: no kvno and no create_ts of a history that was lost is given out twice."""

    kvno: int = 0
    create_ts: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a batch comes to. changed: the entries as they will be and the sequence of the last write to each, by id."""

    outcomes: list[Change | KeystoreError]
    changed: dict[str, tuple[Entry, int]]
    sequence: int


@dataclass
class Ledger:
    """Every id that there ever was, and who has which access key. create_ts_high: of every key that there ever was."""

    entries: dict[str, Entry] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    create_ts_high: int = 0

    def records(self) -> Iterator[KeyRecord]:
        return (entry for entry in list(self.entries.values()) if isinstance(entry, KeyRecord))

    def get(self, principal: str) -> KeyRecord:
        """Raises KeyUnknown."""
        return _live(self.entries.get(principal), principal)

    def find_access_key(self, access_key: str) -> KeyRecord:
        """Raises KeyUnknown."""
        owner = self.owners.get(access_key)
        if owner is None:
            raise KeyUnknown(UNKNOWN_ACCESS_KEY)
        return self.get(owner)

    def merge(self, entries: Sequence[Entry]) -> None:
        """Take in what is durable now."""
        # All that goes before any that comes: an access key may move from one id to another inside a batch.
        for entry in entries:
            old = self.entries.get(entry.id)
            if isinstance(old, KeyRecord):
                self.owners.pop(old.access_key, None)
        for entry in entries:
            self.entries[entry.id] = entry
            if isinstance(entry, KeyRecord) and entry.access_key:
                self.owners[entry.access_key] = entry.id
            self.create_ts_high = max(self.create_ts_high, entry.create_ts)


def plan(ledger: Ledger, writes: Sequence[Write], *, sequence: int, floors: Floors, now: int, entropy: Entropy) -> Plan:
    """Decide every write in order, each on top of those before it. sequence: of the last write before these."""
    draft = _Draft(ledger, floors, now, entropy)
    outcomes: list[Change | KeystoreError] = []
    changed: dict[str, tuple[Entry, int]] = {}
    for write in writes:
        try:
            kind, record = draft.decide(write)
        except KeystoreError as e:
            outcomes.append(e)
            continue
        sequence += 1
        changed[record.id] = (draft.changed[record.id], sequence)
        outcomes.append(Change(sequence, kind, record))
    return Plan(outcomes, changed, sequence)


class _Draft:
    """The ledger as the writes so far leave it."""

    def __init__(self, ledger: Ledger, floors: Floors, now: int, entropy: Entropy) -> None:
        self._ledger = ledger
        self._floors = floors
        self._now = now
        self._entropy = entropy
        self._owners: dict[str, str] = {}
        self.changed: dict[str, Entry] = {}

    def decide(self, write: Write) -> tuple[ChangeKind, KeyRecord]:
        match write:
            case CreateKey():
                return ChangeKind.PUT, self._put(self._created(write))
            case ImportKey():
                return ChangeKind.PUT, self._put(self._imported(write))
            case DeleteKey():
                return ChangeKind.DELETE, self._deleted(write)
            case ChangeCapabilities():
                return ChangeKind.PUT, self._put(self._recapped(write))

    def _entry(self, principal: str) -> Entry | None:
        return self.changed.get(principal) or self._ledger.entries.get(principal)

    def _owner(self, access_key: str) -> KeyRecord | None:
        owner = self._owners.get(access_key) or self._ledger.owners.get(access_key, "")
        entry = self._entry(owner)
        return entry if isinstance(entry, KeyRecord) and entry.access_key == access_key else None

    def _put(self, record: KeyRecord) -> KeyRecord:
        self.changed[record.id] = record
        if record.access_key:
            self._owners[record.access_key] = record.id
        return record

    def _created(self, write: CreateKey) -> KeyRecord:
        if not ids.valid_id(write.id):
            raise WriteInvalid(f"{write.id!r} is not {ids.ID_RULE}")
        last = self._entry(write.id)
        if isinstance(last, KeyRecord):
            raise KeyExists(f"{write.id} has a key already")
        return KeyRecord(
            id=write.id,
            kvno=max(last.kvno if last else 0, self._floors.kvno) + 1,
            role=write.role,
            auth_key=SecretBytes(self._entropy(KEY_BYTES)),
            access_key=self._unused_access_key(),
            secret_key=SecretBytes(random_letters(SECRET_KEY_LETTERS, self._entropy).encode("ascii")),
            create_ts=max(self._now, last.create_ts + 1 if last else 0, self._floors.create_ts + 1),
            caps=_checked(write.capabilities),
        )

    def _unused_access_key(self) -> str:
        while self._owner(access_key := random_letters(ACCESS_KEY_LETTERS, self._entropy)) is not None:
            pass
        return access_key

    def _imported(self, write: ImportKey) -> KeyRecord:
        last = self._entry(write.id)
        if isinstance(last, KeyRecord):
            raise KeyExists(f"{write.id} has a key already")
        if last is not None:
            raise KeyExists(f"{write.id} was deleted here, and a key that was deleted stays so: make a new key for it")
        if write.access_key and self._owner(write.access_key) is not None:
            raise KeyExists(f"{write.id}: its access key is another id's already")
        _check_import(write)
        try:
            return KeyRecord(
                id=write.id,
                kvno=self._floors.kvno + 1,
                role=write.role,
                auth_key=write.auth_key,
                access_key=write.access_key,
                secret_key=write.secret_key,
                create_ts=write.create_ts,
                caps=_checked(write.capabilities),
            )
        except InputError as e:
            raise WriteInvalid(str(e)) from None

    def _deleted(self, write: DeleteKey) -> KeyRecord:
        record = _live(self._entry(write.id), write.id)
        self.changed[write.id] = Tombstone(record.id, record.kvno, record.create_ts)
        return record

    def _recapped(self, write: ChangeCapabilities) -> KeyRecord:
        record = self._addressed(write)
        held = caps.parse(record.caps).capabilities
        return replace(record, caps=_checked(_changed(held, write)))

    def _addressed(self, write: ChangeCapabilities) -> KeyRecord:
        if not write.access_key:
            return _live(self._entry(write.id), write.id)
        record = self._owner(write.access_key)
        if record is None:
            raise KeyUnknown(UNKNOWN_ACCESS_KEY)
        return record


def _changed(held: Capabilities, write: ChangeCapabilities) -> Capabilities:
    match write.change:
        case CapabilityChange.ADD:
            return held.union(write.capabilities)
        case CapabilityChange.REMOVE:
            return held.minus(write.capabilities)
        case CapabilityChange.SET:
            return write.capabilities


def _live(entry: Entry | None, principal: str) -> KeyRecord:
    if isinstance(entry, KeyRecord):
        return entry
    raise KeyUnknown(f"{principal!r} has no key" + (": it was deleted" if entry else ""))


def _check_import(write: ImportKey) -> None:
    secret = write.secret_key.reveal()
    if (write.access_key or secret) and not ids.valid_access_key(write.access_key):
        raise WriteInvalid(f"{write.id}: its access key is not {ACCESS_KEY_LETTERS} letters and digits")
    if len(secret) > MAX_SECRET_KEY_BYTES or not secret.isascii():
        raise WriteInvalid(f"{write.id}: its secret key is not at most {MAX_SECRET_KEY_BYTES} letters and digits")
    if not 0 <= write.create_ts <= MAX_CREATE_TS:
        raise WriteInvalid(f"{write.id}: create_ts {write.create_ts} is not unix seconds")


def _checked(capabilities: Capabilities) -> str:
    """The text to store, which is sure to be read again."""
    text = capabilities.to_json()
    try:
        caps.parse(text)
    except InputError as e:
        raise CapabilitiesRefused(str(e)) from None
    return text
