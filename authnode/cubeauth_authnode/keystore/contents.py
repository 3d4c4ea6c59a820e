"""What stands in the tables, sealed: rows to entries and back, and the one row that speaks for all.

Each row of `keys` is sealed with everything that stands beside it as
associated data, so that no column can be edited or moved to another row. The
meta row's MAC also covers the sum of all rows' digests, which is not stored
but found again from the rows: a row that is taken out, added, or put back from
an earlier time shows there, though it would open by itself. (A sum by XOR is
enough because the digests and their sums are never seen.)
"""

from __future__ import annotations

import hmac
import sqlite3
import struct
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import NamedTuple

from cubeauth.entropy import Entropy
from cubeauth.ids import Role
from cubeauth.keys import KeyRecord
from cubeauth.secret import SecretBytes
from cubeauth_authnode.keystore.base import KeystoreUnusable
from cubeauth_authnode.keystore.connection import RESTORE
from cubeauth_authnode.keystore.ledger import Entry, Floors, Ledger, Tombstone
from cubeauth_authnode.keystore.sealing import NotAuthentic, Seals, Use, encode_fields

LIVE = "live"
DELETED = "deleted"


class Row(NamedTuple):
    """One row of `keys`, columns in order."""

    id: str
    kvno: int
    state: str
    role: str
    create_ts: int
    caps: str
    sequence: int
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Meta:
    """The meta row. Authenticated only after `verify_meta`."""

    keystore_id: str
    root_id: str
    sequence: int
    floors: Floors


@dataclass
class RowSum:
    """The digest of each row, by id, and the sum of all."""

    digests: dict[str, int] = field(default_factory=dict)
    total: int = 0

    def after(self, changed: dict[str, int]) -> tuple[int, int]:
        """How many rows there would be with these put, and the sum of all."""
        total = self.total
        for principal, digest in changed.items():
            total ^= self.digests.get(principal, 0) ^ digest
        return len(self.digests.keys() | changed.keys()), total

    def merge(self, changed: dict[str, int]) -> None:
        _, self.total = self.after(changed)
        self.digests.update(changed)


@dataclass
class Contents:
    """A whole store in memory."""

    meta: Meta
    ledger: Ledger
    row_sum: RowSum


_ROW_TYPES = (str, int, str, str, int, str, int, bytes)
_SELECT_ROWS = "SELECT id, kvno, state, role, create_ts, caps, sequence, sealed FROM keys"
_SELECT_META = "SELECT keystore_id, root_id, sequence, kvno_floor, create_ts_floor, mac FROM meta"
_META_TYPES = (str, str, int, int, int, bytes)
_PUT_ROW = """INSERT INTO keys (id, kvno, state, role, create_ts, caps, sequence, sealed) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET kvno = excluded.kvno, state = excluded.state, role = excluded.role,
    create_ts = excluded.create_ts, caps = excluded.caps, sequence = excluded.sequence, sealed = excluded.sealed"""
_PUT_META = """INSERT INTO meta (only_row, keystore_id, root_id, sequence, kvno_floor, create_ts_floor, mac)
    VALUES (1, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (only_row) DO UPDATE SET sequence = excluded.sequence, kvno_floor = excluded.kvno_floor,
    create_ts_floor = excluded.create_ts_floor, mac = excluded.mac"""


def seal_row(seals: Seals, keystore_id: str, entry: Entry, sequence: int, entropy: Entropy) -> Row:
    """The row of an entry whose last write had this sequence."""
    if isinstance(entry, KeyRecord):
        state, role, caps, material = LIVE, entry.role.value, entry.caps, _pack_material(entry)
    else:
        state, role, caps, material = DELETED, "", "", b""
    bare = Row(entry.id, entry.kvno, state, role, entry.create_ts, caps, sequence, b"")
    return bare._replace(sealed=seals.wrap(material, _associated(keystore_id, bare), entropy))


def open_row(seals: Seals, keystore_id: str, row: Row) -> Entry:
    """Raises NotAuthentic for a row that is not as it was sealed."""
    if tuple(map(type, row)) != _ROW_TYPES:
        raise NotAuthentic
    material = seals.unwrap(row.sealed, _associated(keystore_id, row))
    if row.state == DELETED:
        return Tombstone(row.id, row.kvno, row.create_ts)
    auth_key, access_key, secret_key = _unpack_material(material)
    return KeyRecord(
        id=row.id,
        kvno=row.kvno,
        role=Role(row.role),
        auth_key=SecretBytes(auth_key),
        access_key=access_key.decode("ascii"),
        secret_key=SecretBytes(secret_key),
        create_ts=row.create_ts,
        caps=row.caps,
    )


def digest_row(seals: Seals, row: Row) -> int:
    """What the row adds to the sum; `sealed` stands for the other columns, which it authenticates."""
    return int.from_bytes(seals.mac(Use.ROWS, row.id, row.sealed), "big")


def _associated(keystore_id: str, row: Row) -> bytes:
    return encode_fields("row", keystore_id, *row[:-1])


def _pack_material(record: KeyRecord) -> bytes:
    parts = (record.auth_key.reveal(), record.access_key.encode("ascii"), record.secret_key.reveal())
    return b"".join(struct.pack(">H", len(part)) + part for part in parts)


def _unpack_material(material: bytes) -> tuple[bytes, bytes, bytes]:
    """Only ever given what _pack_material made: it was authenticated."""
    parts: list[bytes] = []
    while material:
        end = 2 + struct.unpack_from(">H", material)[0]
        parts.append(material[2:end])
        material = material[end:]
    auth_key, access_key, secret_key = parts
    return auth_key, access_key, secret_key


def write(connection: sqlite3.Connection, seals: Seals, meta: Meta, row_sum: RowSum, rows: Sequence[Row]) -> dict[str, int]:
    """Put `rows`, and the meta row that speaks for them and all rows before; inside the caller's transaction.

    Returns the digests of `rows`, for the row sum to merge when they are durable.
    """
    changed = {row.id: digest_row(seals, row) for row in rows}
    connection.executemany(_PUT_ROW, rows)
    fields = (meta.keystore_id, meta.root_id, meta.sequence, *astuple(meta.floors))
    connection.execute(_PUT_META, (*fields, _meta_mac(seals, meta, *row_sum.after(changed))))
    return changed


def _meta_mac(seals: Seals, meta: Meta, count: int, total: int) -> bytes:
    fields = (meta.keystore_id, meta.root_id, meta.sequence, *astuple(meta.floors))
    return seals.mac(Use.META, *fields, count, total.to_bytes(32, "big"))


def load(connection: sqlite3.Connection, seals: Seals, source: Path) -> Contents:
    """Everything, opened and authenticated. Raises KeystoreUnusable naming the row, and sqlite3.Error."""
    meta, mac = read_meta(connection, source)
    if meta.root_id != seals.root_id:
        raise KeystoreUnusable(
            f"{source}: this root key ({seals.root_id}) is not the one the store was made with ({meta.root_id}); "
            "give the root key that belongs to it"
        )
    entries: list[Entry] = []
    digests: dict[str, int] = {}
    for row in map(Row._make, connection.execute(_SELECT_ROWS)):
        entries.append(_open_named(seals, meta.keystore_id, row, source))
        digests[row.id] = digest_row(seals, row)
    row_sum = RowSum()
    row_sum.merge(digests)
    if not hmac.compare_digest(mac, _meta_mac(seals, meta, len(digests), row_sum.total)):
        raise KeystoreUnusable(
            f"{source}: damaged: its meta row is not as it was written, or rows were taken out or put back; {RESTORE}"
        )
    ledger = Ledger(create_ts_high=meta.floors.create_ts)
    ledger.merge(entries)
    return Contents(meta, ledger, row_sum)


def _open_named(seals: Seals, keystore_id: str, row: Row, source: Path) -> Entry:
    try:
        return open_row(seals, keystore_id, row)
    except NotAuthentic:
        raise KeystoreUnusable(f"{source}: damaged: the row of id {row.id!r} is not as it was written; {RESTORE}") from None


def read_meta(connection: sqlite3.Connection, source: Path) -> tuple[Meta, bytes]:
    """The meta row, not authenticated yet, and its MAC. Raises KeystoreUnusable where there is not exactly one."""
    rows = connection.execute(_SELECT_META).fetchall()
    if len(rows) != 1 or tuple(map(type, rows[0])) != _META_TYPES:
        raise KeystoreUnusable(f"{source}: damaged: its meta row is missing or no meta row; {RESTORE}")
    keystore_id, root_id, sequence, kvno_floor, create_ts_floor, mac = rows[0]
    return Meta(keystore_id, root_id, sequence, Floors(kvno_floor, create_ts_floor)), mac
