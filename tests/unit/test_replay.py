"""The replay table: seen, forgotten, full, shared by processes that die at any instant, kept or not over a restart."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.replay_table import (
    BUCKET_BYTES,
    HEADER_BYTES,
    KEY_BYTES,
    NOW,
    SKEW,
    SLOTS,
    open_table,
    proof,
    reopened,
    seen,
)

from cubeauth.errors import AuthenticationFailed, InputError, LocalMisuse, Reason, ReplayTableFull
from cubeauth_authnode import replay
from cubeauth_authnode.replay import MIN_ENTRIES, Opening, ReplayCache, prepare


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "replay.cache"


@pytest.fixture
def table(path: Path) -> Iterator[ReplayCache]:
    it = open_table(path)
    yield it
    it.close()


# Seen and forgotten.


def test_a_proof_is_good_once(table: ReplayCache) -> None:
    assert [seen(table, proof(n)) for n in (1, 2, 1, 2, 3)] == [False, False, True, True, False]


@pytest.mark.parametrize("ahead", [-SKEW + 1, 0, SKEW - 1])
def test_a_proof_is_remembered_as_long_as_it_could_be_taken(table: ReplayCache, ahead: int) -> None:
    time = NOW + ahead
    assert not seen(table, proof(1), time=time)
    for later in range(2 * SKEW):
        if abs(int(NOW) + later - time) < SKEW:
            assert seen(table, proof(1), now=NOW + later + 0.999, time=time), later


def test_a_place_is_free_again_after_twice_the_skew(table: ReplayCache) -> None:
    assert not seen(table, proof(1))
    assert table.used(NOW + 2 * SKEW - 1) == 1
    assert table.used(NOW + 2 * SKEW) == 0
    assert not seen(table, proof(1), now=NOW + 2 * SKEW), "the verifier's own time is what refuses it now"


def test_every_place_is_used_before_full_means_refuse(table: ReplayCache) -> None:
    taken: list[bytes] = []
    refused = 0
    for number in range(3 * MIN_ENTRIES):
        try:
            table.remember(proof(number), proof_time=int(NOW), now=NOW)
            taken.append(proof(number))
        except ReplayTableFull:
            refused += 1
    assert len(taken) + refused == 3 * MIN_ENTRIES
    assert len(taken) > MIN_ENTRIES // 2
    assert table.used(NOW) == len(taken) <= table.capacity
    assert all(seen(table, key) for key in taken), "full forgets nothing"
    assert not seen(table, proof(-1), now=NOW + 2 * SKEW), "and is over when the proofs are"


def test_what_used_says_of_a_large_table_is_near_the_truth(path: Path) -> None:
    table = open_table(path, entries=1 << 18)
    for number in range(20_000):
        assert not seen(table, proof(number))
    assert 15_000 < table.used(NOW) < 25_000
    table.close()


# Clocks that go back.


def test_a_clock_set_back_does_not_make_old_proofs_new(table: ReplayCache) -> None:
    assert not seen(table, proof(1))
    assert not seen(table, proof(2), now=NOW + 3600)
    with pytest.raises(AuthenticationFailed) as caught:
        table.remember(proof(1), proof_time=int(NOW), now=NOW)
    assert caught.value.reason is Reason.VERIFIER_SKEW
    with pytest.raises(AuthenticationFailed):
        table.remember(proof(3), proof_time=int(NOW), now=NOW)
    assert 3599 < table.clock_behind(NOW) <= 3600
    assert not seen(table, proof(4), now=NOW + 3601)
    assert table.clock_behind(NOW + 3601) == 0


def test_a_clock_set_back_a_little_costs_nothing(table: ReplayCache) -> None:
    assert not seen(table, proof(1))
    assert not seen(table, proof(2), now=NOW - 5, time=NOW - 5)
    assert seen(table, proof(1), now=NOW - 5, time=NOW)


# What is in the file.


@pytest.mark.parametrize("garbage", [b"\xff", b"\x00", b"\x01", b"\x7f"])
def test_garbage_in_the_slots_never_blocks(path: Path, garbage: bytes) -> None:
    open_table(path).close()
    with path.open("r+b") as f:
        f.seek(HEADER_BYTES)
        f.write(garbage * (os.path.getsize(path) - HEADER_BYTES))
    table = ReplayCache(path, skew=SKEW)
    assert [seen(table, proof(n)) for n in (1, 2, 1)] == [False, False, True]
    table.close()


def test_a_key_without_its_expiry_counts_as_free(path: Path) -> None:
    """What a process leaves that dies between the two stores: it had given no answer yet."""
    table = open_table(path)
    assert not seen(table, proof(1))
    table.close()
    raw = bytearray(path.read_bytes())
    at = raw.find(proof(1)[:KEY_BYTES], HEADER_BYTES)
    bucket, slot = (
        HEADER_BYTES + (at - HEADER_BYTES) // BUCKET_BYTES * BUCKET_BYTES,
        (at - HEADER_BYTES) % BUCKET_BYTES // KEY_BYTES,
    )
    struct.pack_into("<Q", raw, bucket + SLOTS * KEY_BYTES + 8 * slot, 0)
    path.write_bytes(raw)
    table = ReplayCache(path, skew=SKEW)
    assert [seen(table, proof(1)) for _ in range(2)] == [False, True]
    table.close()


# Over a restart.


def test_a_restart_forgets_nothing(path: Path) -> None:
    for clean in (False, True):
        table = open_table(path)
        assert seen(table, proof(1)) is clean
        if clean:
            table.mark_clean()
        table.close()
        assert reopened(path) == Opening(True, "", 0)
    table = ReplayCache(path, skew=SKEW)
    assert seen(table, proof(1))
    table.close()


def test_another_boot_keeps_the_table_only_after_a_clean_stop(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = open_table(path)
    assert not seen(table, proof(1))
    table.mark_clean()
    table.close()
    monkeypatch.setattr(replay, "_boot_id", lambda: b"b" * 36)
    assert reopened(path).kept
    monkeypatch.setattr(replay, "_boot_id", lambda: b"c" * 36)
    assert reopened(path) == Opening(False, "the machine was restarted without a clean stop", int(NOW) + SKEW)


def _flip(path: Path, at: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda path: path.unlink(), "there was none"),
        (lambda path: path.write_bytes(b""), "it is damaged"),
        (lambda path: _flip(path, 0), "it is damaged"),
        (lambda path: _flip(path, 8), "another version"),
        (lambda path: _flip(path, 16), "another version or damaged"),
        (lambda path: _flip(path, 24), "the skew was changed"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "damaged"),
        (lambda path: (path.unlink(), path.mkdir()), "it cannot be read"),
        (lambda path: path.rename(path.with_name("x")).with_name("replay.cache").symlink_to("x"), "it is a link"),
    ],
)
def test_a_table_that_cannot_be_relied_on_is_begun_anew_and_refuses_what_it_may_have_held(
    path: Path, spoil: Any, why: str
) -> None:
    table = open_table(path)
    assert not seen(table, proof(1))
    table.close()
    spoil(path)
    if path.is_dir():
        with pytest.raises(InputError) as refused:
            reopened(path)
        assert refused.value.field == "storeDir"
        return
    opening = reopened(path)
    assert (opening.kept, opening.not_before) == (False, int(NOW) + SKEW)
    assert why in opening.reason
    table = ReplayCache(path, skew=SKEW)
    assert table.not_before == int(NOW) + SKEW
    with pytest.raises(AuthenticationFailed) as caught:
        table.remember(proof(1), proof_time=int(NOW) + SKEW, now=NOW)
    assert caught.value.reason is Reason.VERIFIER_SKEW
    assert not seen(table, proof(1), now=NOW + SKEW + 1)
    table.close()


@pytest.mark.parametrize("change", [{"entries": 4 * MIN_ENTRIES}, {"skew": SKEW + 1}])
def test_a_table_of_another_shape_is_begun_anew(path: Path, change: dict[str, int]) -> None:
    open_table(path).close()
    assert reopened(path, **change).reason == "its size or the skew was changed"


def test_a_new_store_needs_no_table_but_one_that_lost_its_table_does(path: Path) -> None:
    assert prepare(path, entries=MIN_ENTRIES, skew=SKEW, now=NOW, new_store=True).not_before == 0
    path.write_bytes(b"spoilt")
    assert prepare(path, entries=MIN_ENTRIES, skew=SKEW, now=NOW, new_store=True).not_before == int(NOW) + SKEW


def test_a_worker_refuses_a_table_that_is_not_its_settings(path: Path) -> None:
    open_table(path).close()
    with pytest.raises(LocalMisuse):
        ReplayCache(path, skew=SKEW + 1)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        prepare(tmp_path / "nosuch" / "replay.cache", entries=MIN_ENTRIES, skew=SKEW, now=NOW, new_store=True)
    assert str(tmp_path) in str(caught.value)


def test_nobody_else_may_read_it(path: Path) -> None:
    open_table(path).close()
    assert path.stat().st_mode & 0o777 == 0o600
