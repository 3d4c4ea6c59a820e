"""Damage to the file, by chance or by hand: found when the store is opened, and the row named."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.keystore.backends import MASTER, SqliteBackend, create, do, put

from cubeauth.caps import Capabilities
from cubeauth.keys import KeyRecord
from cubeauth_authnode.keystore.base import CapabilityChange, ChangeCapabilities, DeleteKey, KeystoreUnusable

REST = "kvno, state, role, create_ts, caps, sequence, sealed"
ALL = Capabilities(("*:*:*",))


@pytest.fixture
def filled(sqlite: SqliteBackend) -> SqliteBackend:
    """alice and bob live, carol deleted."""
    with closing(sqlite.open()) as store:
        for principal in ("alice", "bob", "carol"):
            put(store, principal)
        do(store, DeleteKey("carol"))
    return sqlite


def _edit(backend: SqliteBackend, *statements: str) -> None:
    with closing(sqlite3.connect(backend.path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize(
    ("edit", "row"),
    [
        ("UPDATE keys SET role = 'service' WHERE id = 'bob'", "bob"),
        (f"UPDATE keys SET caps = '{ALL.to_json()}' WHERE id = 'bob'", "bob"),
        ("UPDATE keys SET kvno = 2 WHERE id = 'bob'", "bob"),
        ("UPDATE keys SET create_ts = create_ts + 1 WHERE id = 'bob'", "bob"),
        ("UPDATE keys SET sequence = 9 WHERE id = 'bob'", "bob"),
        ("UPDATE keys SET state = 'deleted' WHERE id = 'bob'", "bob"),
        ("UPDATE keys SET state = 'live', role = 'client' WHERE id = 'carol'", "carol"),
        ("UPDATE keys SET kvno = 0 WHERE id = 'carol'", "carol"),
        ("UPDATE keys SET id = 'bobby' WHERE id = 'bob'", "bobby"),
        ("UPDATE keys SET sealed = (SELECT sealed FROM keys WHERE id = 'alice') WHERE id = 'bob'", "bob"),
        ("UPDATE keys SET sealed = x'00' WHERE id = 'bob'", "bob"),
        ("UPDATE keys SET caps = CAST(x'ff' AS TEXT) WHERE id = 'bob'", "bob"),
        ("UPDATE keys SET caps = x'ff' WHERE id = 'bob'", "bob"),
        ("UPDATE keys SET kvno = 1.5 WHERE id = 'bob'", "bob"),
        (
            "INSERT INTO keys SELECT 'dave', kvno, state, role, create_ts, caps, sequence, sealed FROM keys WHERE id = 'bob'",
            "dave",
        ),
    ],
)
def test_an_edited_row_is_named(filled: SqliteBackend, edit: str, row: str) -> None:
    _edit(filled, edit)
    with pytest.raises(KeystoreUnusable, match=rf"keystore\.db: damaged: the row of id '{row}' .*; restore a backup"):
        filled.open()


def test_two_rows_that_changed_places_are_found(filled: SqliteBackend) -> None:
    _edit(
        filled,
        "UPDATE keys SET id = 'swap' WHERE id = 'alice'",
        "UPDATE keys SET id = 'alice' WHERE id = 'bob'",
        "UPDATE keys SET id = 'bob' WHERE id = 'swap'",
    )
    with pytest.raises(KeystoreUnusable, match="the row of id 'alice'"):
        filled.open()


@pytest.mark.parametrize("principal", ["bob", "carol"])
def test_a_row_or_a_tombstone_that_was_taken_out_is_missed(filled: SqliteBackend, principal: str) -> None:
    _edit(filled, f"DELETE FROM keys WHERE id = '{principal}'")
    with pytest.raises(KeystoreUnusable, match="rows were taken out or put back"):
        filled.open()


def test_a_row_of_an_earlier_time_put_back_is_found_though_it_is_authentic(sqlite: SqliteBackend) -> None:
    with closing(sqlite.open()) as store:
        do(store, create("mallory", ALL))
    early = sqlite.path.with_name("early.db")
    shutil.copy(sqlite.path, early)
    with closing(sqlite.open()) as store:
        do(store, ChangeCapabilities(CapabilityChange.SET, MASTER, id="mallory"))
    _edit(sqlite, f"ATTACH '{early}' AS early", "DELETE FROM keys", "INSERT INTO keys SELECT * FROM early.keys")
    with pytest.raises(KeystoreUnusable, match="rows were taken out or put back"):
        sqlite.open()


@pytest.mark.parametrize("column", ["sequence", "kvno_floor", "create_ts_floor"])
def test_an_edited_meta_row_is_found(filled: SqliteBackend, column: str) -> None:
    _edit(filled, f"UPDATE meta SET {column} = {column} + 1")
    with pytest.raises(KeystoreUnusable, match="its meta row is not as it was written"):
        filled.open()


def test_another_keystore_id_or_no_meta_row_is_found(filled: SqliteBackend) -> None:
    _edit(filled, "UPDATE meta SET keystore_id = 'another'")
    with pytest.raises(KeystoreUnusable, match="damaged"):
        filled.open()
    _edit(filled, "DELETE FROM meta")
    with pytest.raises(KeystoreUnusable, match="its meta row is missing"):
        filled.open()


def test_a_flipped_byte_in_any_page_is_found_or_was_in_unused_space(sqlite: SqliteBackend) -> None:
    with closing(sqlite.open()) as store:
        store.apply([create(f"id{n}") for n in range(60)], now=0)
        wanted = {record.id: record for record in store.records()}
    clean = sqlite.path.read_bytes()
    pages = len(clean) // 4096
    assert pages > 4
    for page in range(pages):
        found = [_flip_is_found(sqlite, clean, page * 4096 + at, wanted) for at in range(page * 4 % 7, 4096, 157)]
        assert any(found), f"page {page}"


def _flip_is_found(backend: SqliteBackend, clean: bytes, at: int, wanted: dict[str, KeyRecord]) -> bool:
    damaged = bytearray(clean)
    damaged[at] ^= 0x21
    backend.path.write_bytes(damaged)
    try:
        store = backend.open()
    except KeystoreUnusable:
        return True
    with closing(store):
        assert {record.id: record for record in store.records()} == wanted
    return False


def test_a_damaged_log_that_loses_writes_is_noticed(sqlite: SqliteBackend, tmp_path: Path) -> None:
    with closing(sqlite.open()) as store:
        put(store, "alice")
        put(store, "bob")
        log = sqlite.path.with_name("keystore.db-wal")
        kept = {file: file.read_bytes() for file in (sqlite.path, log)}
    for file, content in kept.items():  # as a crash would have left them
        file.write_bytes(content)
    log.write_bytes(bytes(byte ^ 0x21 if n == len(kept[log]) - 100 else byte for n, byte in enumerate(kept[log])))
    with pytest.raises(KeystoreUnusable, match="older"):
        sqlite.open()
    log.write_bytes(kept[log])
    with closing(sqlite.open()) as store:
        assert store.get("bob").kvno == 1
