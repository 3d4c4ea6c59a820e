"""What every keystore must do (keystore/base.py)."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest
from tests.keystore.backends import MASTER, NOW, Backend, create, do, imported, put

from cubeauth.caps import MAX_CAPABILITIES, Capabilities, parse
from cubeauth.ids import Role, valid_access_key
from cubeauth.keys import KeyRecord
from cubeauth.secret import SecretBytes
from cubeauth_authnode.keystore.base import (
    CapabilitiesRefused,
    CapabilityChange,
    Change,
    ChangeCapabilities,
    ChangeKind,
    DeleteKey,
    KeyExists,
    Keystore,
    KeystoreError,
    KeystoreUnusable,
    KeyUnknown,
    Write,
    WriteInvalid,
)

OTHER = Capabilities(("auth:getkey:access",), ("master:vol_1:*",))


def _by_id(store: Keystore) -> dict[str, KeyRecord]:
    return {record.id: record for record in store.records()}


@pytest.fixture
def store(backend: Backend) -> Iterator[Keystore]:
    with closing(backend.open()) as store:
        yield store


def test_a_new_store_has_an_id_and_nothing_else(store: Keystore) -> None:
    assert len(bytes.fromhex(store.keystore_id)) == 16
    assert store.sequence == 0
    assert list(store.records()) == []


def test_a_made_key_is_random_and_found_by_id_and_access_key(store: Keystore) -> None:
    one, two = put(store, "alice").record, put(store, "bob").record
    assert (one.id, one.kvno, one.role, one.create_ts, one.caps) == ("alice", 1, Role.CLIENT, NOW, MASTER.to_json())
    assert len(one.auth_key) == 32
    assert len(one.secret_key) == 32
    assert valid_access_key(one.access_key)
    assert one.auth_key != two.auth_key
    assert one.secret_key != two.secret_key
    assert store.get("alice") == one == store.find_access_key(one.access_key)
    assert sorted(record.id for record in store.records()) == ["alice", "bob"]


def test_an_id_that_is_there_is_not_made_again(store: Keystore) -> None:
    first = put(store, "alice").record
    with pytest.raises(KeyExists, match="alice"):
        put(store, "alice")
    assert store.get("alice") == first
    assert store.sequence == 1


def test_a_key_made_anew_is_above_the_deleted_one_in_the_same_second(store: Keystore) -> None:
    first = put(store, "alice").record
    do(store, DeleteKey("alice"))
    second = put(store, "alice").record
    assert (second.kvno, second.create_ts) == (first.kvno + 1, first.create_ts + 1)
    assert second.auth_key != first.auth_key
    assert second.access_key != first.access_key


def test_a_clock_that_steps_back_brings_no_create_ts_back(store: Keystore) -> None:
    first = put(store, "alice", now=NOW).record
    do(store, DeleteKey("alice"), now=NOW - 500)
    assert put(store, "alice", now=NOW - 1000).record.create_ts == first.create_ts + 1


def test_a_deleted_key_is_gone_by_id_and_by_access_key_and_stays_gone(backend: Backend) -> None:
    with closing(backend.open()) as store:
        record = put(store, "alice").record
        change = do(store, DeleteKey("alice"))
        assert (change.kind, change.record) == (ChangeKind.DELETE, record)
    with closing(backend.open()) as store:
        assert list(store.records()) == []
        with pytest.raises(KeyUnknown, match="alice"):
            store.get("alice")
        with pytest.raises(KeyUnknown):
            store.find_access_key(record.access_key)
        with pytest.raises(KeyUnknown, match="alice"):
            do(store, DeleteKey("alice"))


def test_the_access_key_of_a_deleted_key_does_not_find_the_one_made_anew(store: Keystore) -> None:
    gone = put(store, "alice").record
    by_gone = ChangeCapabilities(CapabilityChange.ADD, OTHER, access_key=gone.access_key)
    outcomes = store.apply([DeleteKey("alice"), create("alice"), by_gone], now=NOW)
    assert [type(outcome) for outcome in outcomes] == [Change, Change, KeyUnknown]
    with pytest.raises(KeyUnknown):
        store.find_access_key(gone.access_key)
    with pytest.raises(KeyUnknown):
        do(store, by_gone)


def test_everything_is_there_after_reopening(backend: Backend) -> None:
    with closing(backend.open()) as store:
        put(store, "alice")
        do(store, imported("MasterService"))
        before = (store.keystore_id, store.sequence, _by_id(store))
    with closing(backend.open()) as store:
        assert (store.keystore_id, store.sequence, _by_id(store)) == before


def test_a_tombstone_counts_after_reopening(backend: Backend) -> None:
    with closing(backend.open()) as store:
        put(store, "alice")
        do(store, DeleteKey("alice"))
    with closing(backend.open()) as store:
        record = put(store, "alice", now=NOW - 7).record
        assert (record.kvno, record.create_ts) == (2, NOW + 1)


def test_an_imported_key_is_taken_over_as_it_is(store: Keystore) -> None:
    record = do(store, imported("MasterService", key=b"q" * 16)).record
    assert (record.kvno, record.role, record.create_ts, record.access_key) == (1, Role.SERVICE, 1_600_000_000, "A" * 16)
    assert record.auth_key == SecretBytes(b"q" * 16)
    assert store.find_access_key("A" * 16) == record


def test_an_import_over_anything_that_is_or_was_there_is_refused(store: Keystore) -> None:
    put(store, "alice")
    put(store, "bob")
    do(store, DeleteKey("bob"))
    do(store, imported("carol"))
    with pytest.raises(KeyExists, match="alice has a key"):
        do(store, imported("alice", access_key="B" * 16))
    with pytest.raises(KeyExists, match="bob was deleted"):
        do(store, imported("bob", access_key="C" * 16))
    with pytest.raises(KeyExists, match="dave: its access key"):
        do(store, imported("dave"))
    assert store.sequence == 4


def test_keys_from_before_access_keys_are_imported_without_one(store: Keystore) -> None:
    do(store, imported("alice", access_key=""))
    do(store, imported("bob", access_key=""))
    with pytest.raises(KeyUnknown):
        store.find_access_key("")


@pytest.mark.parametrize(
    "write",
    [
        imported("1alice"),
        imported("alice", key=b"k" * 31),
        imported("alice", access_key="short"),
        imported("alice", create_ts=-1),
        imported("alice", create_ts=2**63),
        replace(imported("alice"), access_key=""),
        replace(imported("alice"), secret_key=SecretBytes(b"\xff" * 32)),
        create("not an id"),
    ],
    ids=["id", "key length", "access key", "negative time", "endless time", "secret key alone", "secret key bytes", "created id"],
)
def test_a_write_that_no_record_can_hold_is_refused(store: Keystore, write: Write) -> None:
    with pytest.raises(WriteInvalid):
        do(store, write)
    assert store.sequence == 0


@pytest.mark.parametrize("by", ["id", "access key"])
def test_capabilities_are_added_removed_and_set(store: Keystore, by: str) -> None:
    record = put(store, "alice").record

    def change(kind: CapabilityChange, capabilities: Capabilities) -> Capabilities:
        address = {"id": "alice"} if by == "id" else {"access_key": record.access_key}
        done = do(store, ChangeCapabilities(kind, capabilities, **address)).record
        assert store.get("alice") == done == replace(record, caps=done.caps)
        return parse(done.caps).capabilities

    assert change(CapabilityChange.ADD, OTHER) == MASTER.union(OTHER)
    assert change(CapabilityChange.REMOVE, MASTER) == OTHER
    assert change(CapabilityChange.SET, MASTER) == MASTER


def test_capabilities_of_a_key_that_is_not_there_do_not_change(store: Keystore) -> None:
    gone = put(store, "alice").record
    do(store, DeleteKey("alice"))
    for address in ({"id": "alice"}, {"id": "bob"}, {"access_key": gone.access_key}, {"access_key": "Z" * 16}):
        with pytest.raises(KeyUnknown):
            do(store, ChangeCapabilities(CapabilityChange.ADD, OTHER, **address))


def test_capabilities_over_the_limit_or_ill_formed_are_refused(store: Keystore) -> None:
    most = Capabilities(tuple(f"master:n{n}:access" for n in range(MAX_CAPABILITIES)))
    do(store, create("alice", most))
    with pytest.raises(CapabilitiesRefused, match=str(MAX_CAPABILITIES)):
        do(store, ChangeCapabilities(CapabilityChange.ADD, OTHER, id="alice"))
    with pytest.raises(CapabilitiesRefused, match="no capability"):
        do(store, create("bob", Capabilities(("everything",))))
    assert parse(store.get("alice").caps).capabilities == most


def test_each_write_of_a_batch_sees_those_before_it_and_fails_alone(store: Keystore) -> None:
    outcomes = store.apply(
        [
            create("alice"),
            create("alice"),
            imported("bob"),
            DeleteKey("bob"),
            imported("carol"),
            ChangeCapabilities(CapabilityChange.SET, OTHER, access_key="A" * 16),
            DeleteKey("dave"),
            DeleteKey("alice"),
            create("alice"),
        ],
        now=NOW,
    )
    done = [outcome.sequence if isinstance(outcome, Change) else type(outcome) for outcome in outcomes]
    assert done == [1, KeyExists, 2, 3, 4, 5, KeyUnknown, 6, 7]
    assert store.sequence == 7
    assert store.find_access_key("A" * 16).id == "carol"
    assert store.get("carol").caps == OTHER.to_json()
    assert (store.get("alice").kvno, store.get("alice").create_ts) == (2, NOW + 1)


def test_a_batch_in_which_all_fails_changes_nothing(store: Keystore) -> None:
    outcomes = store.apply([DeleteKey("alice"), DeleteKey("bob")], now=NOW)
    assert all(isinstance(outcome, KeystoreError) for outcome in outcomes)
    assert store.sequence == 0
    assert store.apply([], now=NOW) == []


def test_no_key_is_in_the_clear_anywhere_and_none_of_a_deleted_one_at_all(backend: Backend) -> None:
    with closing(backend.open()) as store:
        records = [put(store, f"id{n}").record for n in range(40)]
        for record in records[::2]:
            do(store, DeleteKey(record.id))
        while_open = backend.everything()
    everything = while_open + backend.everything()
    for record in records:
        key = record.auth_key.reveal()
        for form in (key, key.hex().encode(), base64.b64encode(key), record.access_key.encode(), record.secret_key.reveal()):
            assert form not in everything


def test_a_closed_store_takes_no_write(backend: Backend) -> None:
    store = backend.open()
    store.close()
    with pytest.raises(KeystoreUnusable, match="closed"):
        put(store, "alice")


def test_a_store_that_is_open_is_not_opened_again(backend: Backend) -> None:
    with closing(backend.open()), pytest.raises(KeystoreUnusable):
        backend.open()
    backend.open().close()
