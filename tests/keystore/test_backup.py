"""Copies of a store in use, checked and put back."""

from __future__ import annotations

import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from tests.keystore.backends import NOW, ROOT_KEY, SqliteBackend, create, do, put
from tests.keystore.children import child, read_line

from cubeauth.errors import InputError
from cubeauth.secret import SecretBytes
from cubeauth_authnode.keystore.backup import Facts, backup, check, restore
from cubeauth_authnode.keystore.base import DeleteKey, KeystoreUnusable


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    folder = tmp_path / "copies"
    folder.mkdir()
    return folder / "monday.db"


def test_a_copy_is_taken_while_the_owner_writes_and_holds_what_was_there(sqlite: SqliteBackend, copy: Path) -> None:
    with closing(sqlite.open()) as store:
        store.apply([create(f"id{n}") for n in range(300)], now=NOW)
        do(store, DeleteKey("id7"))
        facts = backup(sqlite.path, copy, root_key=ROOT_KEY)
        put(store, "later")
        assert facts == Facts(store.keystore_id, 301, 299, 1, authenticated=True)
    assert check(copy, root_key=ROOT_KEY) == facts
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert list(copy.parent.iterdir()) == [copy]


def test_another_process_that_owns_the_store_does_not_hinder_a_copy(sqlite: SqliteBackend, copy: Path, tmp_path: Path) -> None:
    with child("write", tmp_path) as owner:
        for _ in range(20):
            read_line(owner)
        facts = backup(sqlite.path, copy, root_key=ROOT_KEY)
        for _ in range(20):
            read_line(owner)
    assert facts.sequence >= 20


def test_a_copy_is_checked_without_the_root_key_as_far_as_that_goes(sqlite: SqliteBackend, copy: Path) -> None:
    with closing(sqlite.open()) as store:
        put(store, "alice")
    facts = backup(sqlite.path, copy)
    assert facts == check(copy)
    assert (facts.sequence, facts.keys, facts.authenticated) == (1, 1, False)


def test_a_store_that_is_damaged_gives_no_copy(sqlite: SqliteBackend, copy: Path) -> None:
    with closing(sqlite.open()) as store:
        put(store, "alice")
    with closing(sqlite3.connect(sqlite.path)) as connection, connection:
        connection.execute("UPDATE keys SET role = 'service'")
    with pytest.raises(KeystoreUnusable, match=r"keystore\.db: damaged: the row of id 'alice'"):
        backup(sqlite.path, copy, root_key=ROOT_KEY)
    assert list(copy.parent.iterdir()) == []


def test_a_copy_does_not_go_over_another_file_or_into_no_folder(sqlite: SqliteBackend, copy: Path) -> None:
    sqlite.open().close()
    copy.write_text("of last week")
    with pytest.raises(InputError, match=r"monday\.db: is there already"):
        backup(sqlite.path, copy)
    assert copy.read_text() == "of last week"
    with pytest.raises(InputError, match=r"nowhere/monday\.db: cannot be written: No such file"):
        backup(sqlite.path, copy.parent / "nowhere" / "monday.db")


def test_what_is_no_keystore_is_neither_copied_nor_checked_nor_restored(sqlite: SqliteBackend, copy: Path) -> None:
    with pytest.raises(KeystoreUnusable, match="no such file"):
        backup(sqlite.path, copy)
    for content, problem in ((b"", "empty"), (b"nothing of ours " * 99, "not a database")):
        copy.write_bytes(content)
        with pytest.raises(KeystoreUnusable, match=problem):
            check(copy)
        with pytest.raises(KeystoreUnusable, match=rf"monday\.db: .*{problem}"):
            restore(copy, sqlite.path, root_key=ROOT_KEY)
    assert not sqlite.path.exists()


@pytest.fixture
def monday(sqlite: SqliteBackend, copy: Path) -> Path:
    """alice is there; since then she was deleted and bob was made."""
    with closing(sqlite.open()) as store:
        put(store, "alice")
        backup(sqlite.path, copy, root_key=ROOT_KEY)
        do(store, DeleteKey("alice"))
        put(store, "bob")
    return copy


def test_a_lost_store_is_restored_and_its_age_noticed_until_accepted(sqlite: SqliteBackend, monday: Path) -> None:
    shutil.rmtree(sqlite.path.parent)
    done = restore(monday, sqlite.path, root_key=ROOT_KEY)
    assert (done.facts.sequence, done.facts.keys, done.kept) == (1, 1, ())
    assert stat.S_IMODE(sqlite.path.stat().st_mode) == 0o600
    with pytest.raises(KeystoreUnusable, match="older copy"):
        sqlite.open()
    with closing(sqlite.open(accept_older=True)) as store:
        assert [record.id for record in store.records()] == ["alice"]


def test_a_copy_of_the_last_write_is_no_older_copy(sqlite: SqliteBackend, copy: Path) -> None:
    with closing(sqlite.open()) as store:
        put(store, "alice")
    backup(sqlite.path, copy, root_key=ROOT_KEY)
    sqlite.path.unlink()
    restore(copy, sqlite.path, root_key=ROOT_KEY)
    with closing(sqlite.open()) as store:
        assert store.get("alice").kvno == 1


def test_a_start_refused_for_want_of_a_store_leaves_nothing_that_a_restore_would_not_replace(
    sqlite: SqliteBackend, monday: Path
) -> None:
    shutil.rmtree(sqlite.path.parent)
    with pytest.raises(KeystoreUnusable, match="there is no keystore"):
        sqlite.open()
    assert restore(monday, sqlite.path, root_key=ROOT_KEY).kept == ()


def test_a_store_that_is_there_is_replaced_only_when_told_and_kept_aside(sqlite: SqliteBackend, monday: Path) -> None:
    newest = sqlite.path.read_bytes()
    log = sqlite.path.with_name("keystore.db-wal")
    log.write_bytes(b"a log left by a crash")
    with pytest.raises(InputError, match=r"keystore\.db: is there already"):
        restore(monday, sqlite.path, root_key=ROOT_KEY)
    assert sqlite.path.read_bytes() == newest
    kept = restore(monday, sqlite.path, root_key=ROOT_KEY, replace=True).kept
    assert [file.name for file in kept] == ["keystore.db.replaced-1", "keystore.db.replaced-1-wal"]
    assert [file.read_bytes() for file in kept] == [newest, b"a log left by a crash"]
    assert not log.exists()
    again = restore(monday, sqlite.path, root_key=ROOT_KEY, replace=True).kept
    assert [file.name for file in again] == ["keystore.db.replaced-2"]
    assert check(sqlite.path, root_key=ROOT_KEY).sequence == 1


def test_nothing_is_restored_under_a_running_owner(sqlite: SqliteBackend, monday: Path) -> None:
    with closing(sqlite.open()), pytest.raises(KeystoreUnusable, match="in use by process"):
        restore(monday, sqlite.path, root_key=ROOT_KEY, replace=True)


def test_a_bad_copy_or_another_root_key_leaves_the_store_as_it_was(sqlite: SqliteBackend, monday: Path) -> None:
    before = sqlite.path.read_bytes()
    with pytest.raises(KeystoreUnusable, match=r"monday\.db: this root key"):
        restore(monday, sqlite.path, root_key=SecretBytes(b"x" * 32), replace=True)
    with closing(sqlite3.connect(monday)) as connection, connection:
        connection.execute("DELETE FROM keys")
    with pytest.raises(KeystoreUnusable, match=r"monday\.db: damaged"):
        restore(monday, sqlite.path, root_key=ROOT_KEY, replace=True)
    assert sqlite.path.read_bytes() == before
    assert sorted(file.name for file in sqlite.path.parent.iterdir()) == ["keystore.db", "keystore.db.lock"]
