"""An older copy put back is noticed at start; accepted, it gives nothing out twice."""

from __future__ import annotations

import json
import logging
import shutil
from contextlib import closing
from pathlib import Path

import pytest
from tests.keystore.backends import NOW, SqliteBackend, do, put

from cubeauth.secret import SecretBytes
from cubeauth_authnode.keystore.base import DeleteKey, Keystore, KeystoreUnusable, KeyUnknown
from cubeauth_authnode.keystore.sqlite import SqliteKeystore


def _copy(backend: SqliteBackend) -> bytes:
    return backend.path.read_bytes()


def _history(store: Keystore) -> list[tuple[int, int]]:
    """Make and delete bob over and over, faster than the clock: each (kvno, create_ts) that he was given."""
    given = []
    for _ in range(5):
        record = put(store, "bob").record
        given.append((record.kvno, record.create_ts))
        do(store, DeleteKey("bob"))
    return given


def test_an_older_copy_put_back_is_noticed_and_told_how_to_accept(sqlite: SqliteBackend) -> None:
    with closing(sqlite.open()) as store:
        put(store, "alice")
    copy = _copy(sqlite)
    with closing(sqlite.open()) as store:
        do(store, DeleteKey("alice"))
        put(store, "bob")
    sqlite.path.write_bytes(copy)
    with pytest.raises(KeystoreUnusable, match=r"an older copy was put back: it is at write 1, .* saw 3; .*--accept-older-store"):
        sqlite.open()
    assert _copy(sqlite) == copy


@pytest.mark.parametrize("witness_lost", [False, True], ids=["witness there", "witness lost"])
def test_an_accepted_older_copy_gives_no_kvno_and_no_create_ts_out_again(sqlite: SqliteBackend, witness_lost: bool) -> None:
    with closing(sqlite.open()) as store:
        keystore_id = store.keystore_id
        put(store, "alice")
    copy = _copy(sqlite)
    with closing(sqlite.open()) as store:
        lost = _history(store)
        last = store.sequence
    sqlite.path.write_bytes(copy)
    if witness_lost:
        sqlite.witness.unlink()
    with closing(sqlite.open(accept_older=True)) as store:
        assert store.keystore_id == keystore_id
        assert store.sequence > last
        assert store.get("alice").kvno == 1
        again = _history(store)
        assert min(kvno for kvno, _ in again) > max(kvno for kvno, _ in lost)
        assert min(ts for _, ts in again) > max(ts for _, ts in lost)
    # The same copy a second time: the floors of the first acceptance were in the witness too.
    sqlite.path.write_bytes(copy)
    with pytest.raises(KeystoreUnusable, match="older"):
        sqlite.open()
    with closing(sqlite.open(accept_older=True)) as store:
        third = _history(store)
        assert min(kvno for kvno, _ in third) > max(kvno for kvno, _ in again)
        assert min(ts for _, ts in third) > max(ts for _, ts in again)
    sqlite.open().close()


def test_floors_stay_in_the_witness_when_a_write_follows(sqlite: SqliteBackend) -> None:
    with closing(sqlite.open()) as store:
        put(store, "alice")
    copy = _copy(sqlite)
    with closing(sqlite.open()) as store:
        far = put(store, "bob", now=NOW + 1_000_000).record.create_ts
        do(store, DeleteKey("bob"))
    for _ in range(2):
        sqlite.path.write_bytes(copy)
        sqlite.open(accept_older=True).close()
        with closing(sqlite.open()) as store:
            do(store, DeleteKey("alice"))
    sqlite.path.write_bytes(copy)
    with closing(sqlite.open(accept_older=True)) as store:
        assert put(store, "bob").record.create_ts > far


def test_a_store_ahead_of_its_witness_is_no_alarm_and_the_witness_catches_up(sqlite: SqliteBackend) -> None:
    """As a crash between commit and witness leaves it."""
    with closing(sqlite.open()) as store:
        put(store, "alice")
    behind = sqlite.witness.read_bytes()
    with closing(sqlite.open()) as store:
        put(store, "bob")
    copy = _copy(sqlite)
    sqlite.witness.write_bytes(behind)
    with closing(sqlite.open()) as store:
        assert store.sequence == 2
        assert json.loads(sqlite.witness.read_bytes())["sequence"] == 2
        put(store, "carol")
    sqlite.path.write_bytes(copy)
    with pytest.raises(KeystoreUnusable, match="older"):
        sqlite.open()


def test_a_crash_before_the_first_witness_is_no_alarm(sqlite: SqliteBackend) -> None:
    sqlite.open().close()
    sqlite.witness.unlink()
    sqlite.open().close()
    assert sqlite.witness.exists()


def test_a_missing_witness_is_an_alarm_once_there_were_writes(sqlite: SqliteBackend) -> None:
    with closing(sqlite.open()) as store:
        put(store, "alice")
    sqlite.witness.unlink()
    with pytest.raises(KeystoreUnusable, match=r"keystore\.json: missing, .*--accept-older-store"):
        sqlite.open()


def test_a_missing_database_that_the_witness_knows_is_not_begun_anew(sqlite: SqliteBackend) -> None:
    with closing(sqlite.open()) as store:
        put(store, "alice")
    sqlite.path.unlink()
    for accept in (False, True):
        with pytest.raises(KeystoreUnusable, match=r"there is no keystore, and its witness .* knows one; restore a backup"):
            sqlite.open(accept_older=accept)


def test_the_witness_of_another_keystore_is_refused_even_when_older_is_accepted(sqlite: SqliteBackend, tmp_path: Path) -> None:
    other = SqliteBackend(tmp_path / "other")
    for backend in (sqlite, other):
        with closing(backend.open()) as store:
            put(store, "alice")
    shutil.copy(other.witness, sqlite.witness)
    with pytest.raises(KeystoreUnusable, match=r"keystore\.json: the witness of keystore \w{32}, and .* is keystore \w{32}"):
        sqlite.open(accept_older=True)


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b'{"keystore_id":"\\ud800","sequence":1,"create_ts_high":0,"mac":""}', b"9" * 5000],
)
def test_a_file_that_is_no_witness_is_named(sqlite: SqliteBackend, content: bytes) -> None:
    sqlite.open().close()
    sqlite.witness.write_bytes(content)
    with pytest.raises(KeystoreUnusable, match=r"keystore\.json: "):
        sqlite.open()


@pytest.mark.parametrize("member", ["sequence", "create_ts_high"])
def test_an_edited_witness_is_named(sqlite: SqliteBackend, member: str) -> None:
    with closing(sqlite.open()) as store:
        put(store, "alice")
    seen = json.loads(sqlite.witness.read_bytes())
    sqlite.witness.write_text(json.dumps({**seen, member: 0}))
    with pytest.raises(KeystoreUnusable, match=r"keystore\.json: not as it was written"):
        sqlite.open()


def test_a_witness_of_another_root_key_is_named(sqlite: SqliteBackend, tmp_path: Path) -> None:
    other = SqliteBackend(tmp_path / "other")
    other.open(root_key=SecretBytes(b"x" * 32)).close()
    sqlite.open().close()
    shutil.copy(other.witness, sqlite.witness)
    with pytest.raises(KeystoreUnusable, match="or of another root key"):
        sqlite.open()


def test_a_witness_that_cannot_be_written_stops_the_store_before_it_shows_the_write(sqlite: SqliteBackend) -> None:
    store = sqlite.open()
    put(store, "alice")
    away = sqlite.witness.parent.rename(sqlite.witness.parent.with_name("away"))
    with pytest.raises(KeystoreUnusable, match=r"the witness .*keystore\.json: cannot be written"):
        put(store, "bob")
    away.rename(sqlite.witness.parent)
    with pytest.raises(KeystoreUnusable, match="takes no writes"):
        put(store, "carol")
    with pytest.raises(KeyUnknown):
        store.get("bob")
    assert store.sequence == 1
    store.close()
    # The write was on its way and is whole; nobody was told that it had failed for good.
    with closing(sqlite.open()) as again:
        assert again.sequence == 2
        assert again.get("bob").kvno == 1


def test_what_a_killed_witness_write_left_is_cleared_away(sqlite: SqliteBackend) -> None:
    sqlite.open().close()
    leftover = sqlite.witness.with_name(f".{sqlite.witness.name}.abcd1234")
    leftover.write_text("half")
    sqlite.open().close()
    assert list(sqlite.witness.parent.iterdir()) == [sqlite.witness]


def test_accepting_what_is_not_older_changes_nothing_and_says_so(sqlite: SqliteBackend, caplog: pytest.LogCaptureFixture) -> None:
    with closing(sqlite.open()) as store:
        put(store, "alice")
    with caplog.at_level(logging.WARNING), closing(sqlite.open(accept_older=True)) as store:
        assert isinstance(store, SqliteKeystore)
        assert store.sequence == 1
    assert "take --accept-older-store away" in caplog.text
