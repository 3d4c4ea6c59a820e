"""What a store on SQLite asks of its file, its folder and its neighbours before it starts."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from tests.keystore.backends import NOW, ROOT_KEY, SqliteBackend, put
from tests.keystore.children import child, read_line

from cubeauth.errors import InputError
from cubeauth.secret import SecretBytes
from cubeauth_authnode.keystore import filesystem, schema
from cubeauth_authnode.keystore.base import KeystoreUnusable
from cubeauth_authnode.keystore.connection import connect, transaction
from cubeauth_authnode.keystore.sqlite import SqliteKeystore


def _sql(backend: SqliteBackend, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(backend.path)) as connection, connection:
        return connection.execute(statement).fetchall()


def test_it_is_durable_in_wal_with_full_sync_and_erases_what_it_deletes(sqlite: SqliteBackend) -> None:
    with closing(sqlite.open()) as store:
        pragmas = {
            name: store._connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1}


def test_folder_and_files_are_the_owners_alone(sqlite: SqliteBackend) -> None:
    with closing(sqlite.open()) as store:
        put(store, "alice")
        folders = (sqlite.path.parent, sqlite.witness.parent)
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for folder in folders for file in folder.iterdir()}
        assert [stat.S_IMODE(folder.stat().st_mode) for folder in folders] == [0o700, 0o700]
    assert set(modes) == {"keystore.db", "keystore.db-wal", "keystore.db-shm", "keystore.db.lock", "keystore.json"}
    assert set(modes.values()) == {0o600}


def test_a_closed_store_is_one_file_and_its_lock(sqlite: SqliteBackend) -> None:
    with closing(sqlite.open()) as store:
        put(store, "alice")
    assert sorted(file.name for file in sqlite.path.parent.iterdir()) == ["keystore.db", "keystore.db.lock"]


def test_a_database_that_others_can_read_is_closed_to_them(sqlite: SqliteBackend) -> None:
    sqlite.open().close()
    sqlite.path.chmod(0o644)
    sqlite.open().close()
    assert stat.S_IMODE(sqlite.path.stat().st_mode) == 0o600


def test_a_newer_schema_is_refused_by_its_number_and_left_alone(sqlite: SqliteBackend) -> None:
    sqlite.open().close()
    _sql(sqlite, "PRAGMA user_version = 7")
    before = sqlite.path.read_bytes()
    with pytest.raises(KeystoreUnusable, match=r"keystore\.db: has schema version 7, and this program knows versions up to 1"):
        sqlite.open()
    assert sqlite.path.read_bytes() == before


def test_another_programs_database_is_refused_and_left_alone(sqlite: SqliteBackend) -> None:
    sqlite.path.parent.mkdir()
    _sql(sqlite, "CREATE TABLE songs (title TEXT)")
    before = sqlite.path.read_bytes()
    with pytest.raises(KeystoreUnusable, match="not a keystore"):
        sqlite.open()
    assert sqlite.path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused_and_left_alone(sqlite: SqliteBackend) -> None:
    sqlite.path.parent.mkdir()
    sqlite.path.write_bytes(b"this is no database " * 100)
    with pytest.raises(KeystoreUnusable, match=r"keystore\.db: damaged: file is not a database"):
        sqlite.open()
    assert sqlite.path.read_bytes() == b"this is no database " * 100


def test_an_older_schema_is_brought_up_in_one_step(sqlite: SqliteBackend) -> None:
    with closing(sqlite.open()) as store:
        put(store, "alice")
    migrations = (
        *schema.MIGRATIONS,
        ("CREATE TABLE notes (text TEXT)", "INSERT INTO notes VALUES ('new')"),
        ("DROP TABLE notes",),
    )
    with closing(connect(sqlite.path)) as connection:
        with pytest.raises(sqlite3.OperationalError), transaction(connection):
            schema.migrate(connection, 1, migrations=(*migrations, ("CREATE NONSENSE",)))
        assert schema.identify(connection, sqlite.path) == 1
        with transaction(connection):
            schema.migrate(connection, 1, migrations=migrations[:2])
        assert schema.identify(connection, sqlite.path, known=2) == 2
        with transaction(connection):
            schema.migrate(connection, 2, migrations=migrations)
        assert connection.execute("SELECT name FROM sqlite_master WHERE name = 'notes'").fetchall() == []


def test_a_second_owner_is_told_which_process_has_the_store(sqlite: SqliteBackend, tmp_path: Path) -> None:
    with child("hold", tmp_path) as owner:
        assert read_line(owner) == "ready"
        with pytest.raises(KeystoreUnusable, match=rf"keystore\.db: in use by process {owner.pid}; stop that one first"):
            sqlite.open()
        owner.kill()
        owner.wait()
        sqlite.open().close()


def test_a_forked_child_that_outlives_a_killed_owner_does_not_keep_the_store(sqlite: SqliteBackend, tmp_path: Path) -> None:
    with child("fork", tmp_path) as owner:
        orphan = int(read_line(owner))
        try:
            owner.kill()
            owner.wait()
            os.kill(orphan, 0)  # it lives
            sqlite.open().close()
        finally:
            os.kill(orphan, 9)


def test_a_wrong_root_key_is_told_by_name(sqlite: SqliteBackend) -> None:
    sqlite.open().close()
    with pytest.raises(
        KeystoreUnusable, match=r"this root key \([0-9a-f]{16}\) is not the one the store was made with \([0-9a-f]{16}\)"
    ) as told:
        sqlite.open(root_key=SecretBytes(b"x" * 32))
    assert b"x" * 32 not in str(told.value).encode()
    sqlite.open().close()


def test_a_root_key_of_another_length_is_refused(sqlite: SqliteBackend) -> None:
    with pytest.raises(InputError, match="root key: 16 bytes; it must have 32"):
        sqlite.open(root_key=SecretBytes(b"x" * 16))


def test_a_network_file_system_is_refused(sqlite: SqliteBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(f"27 1 254:0 / / rw - ext4 /dev/vda rw\n30 27 0:40 / {tmp_path}/store rw - nfs4 server:/export rw\n")
    monkeypatch.setattr(filesystem, "MOUNTINFO", mountinfo)
    with pytest.raises(KeystoreUnusable, match=r"store is on a network file system \(nfs4\)"):
        sqlite.open()
    assert not sqlite.path.exists()


def test_a_witness_beside_the_store_is_refused(sqlite: SqliteBackend) -> None:
    with pytest.raises(InputError, match=r"witness: .* is in the store's own folder"):
        SqliteKeystore.open(sqlite.path, root_key=ROOT_KEY, witness=sqlite.path.parent / "witness.json", now=NOW)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file")
    with pytest.raises(KeystoreUnusable, match="store: cannot be made: File exists"):
        SqliteBackend(tmp_path).open()
