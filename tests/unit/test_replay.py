"""The replay table: seen, forgotten, full, shared by processes that die at any instant, kept or not over a restart."""

from __future__ import annotations

import fcntl
import hashlib
import multiprocessing
import os
import signal
import struct
import tempfile
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from cubeauth.errors import AuthenticationFailed, InputError, LocalMisuse, Reason, ReplayDetected, ReplayTableFull
from cubeauth_authnode import replay
from cubeauth_authnode.replay import MIN_ENTRIES, STRIPES, Opening, ReplayCache, prepare

SKEW = 10
NOW = 1_800_000_000.0
FORK = multiprocessing.get_context("fork")
HEADER_BYTES, BUCKET_BYTES, SLOTS, KEY_BYTES = 4096, 256, 8, 24


def proof(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()


def open_table(path: Path, *, entries: int = MIN_ENTRIES, skew: int = SKEW, now: float = NOW, new: bool = True) -> ReplayCache:
    prepare(path, entries=entries, skew=skew, now=now, new_store=new)
    return ReplayCache(path, skew=skew)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "replay.cache"


@pytest.fixture
def table(path: Path) -> Iterator[ReplayCache]:
    it = open_table(path)
    yield it
    it.close()


def seen(table: ReplayCache, key: bytes, *, now: float = NOW, time: float | None = None) -> bool:
    try:
        table.remember(key, proof_time=int(now if time is None else time), now=now)
    except ReplayDetected:
        return True
    return False


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


def reopened(path: Path, **changes: Any) -> Opening:
    given: dict[str, Any] = {"entries": MIN_ENTRIES, "skew": SKEW, "now": NOW, "new_store": False} | changes
    return prepare(path, **given)


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
        assert refused.value.field == "replayCache"
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


# Processes.


ROUND = 50


def _race(path: Path, numbers: list[int], start: Any, answers: Connection) -> None:
    table = ReplayCache(path, skew=SKEW)
    won = []
    for at in range(0, len(numbers), ROUND):
        start.wait()
        won += [number for number in numbers[at : at + ROUND] if not seen(table, proof(number))]
    answers.send(won)


def test_of_two_processes_with_one_proof_exactly_one_wins(path: Path) -> None:
    open_table(path, entries=1 << 16).close()
    numbers = list(range(4000))
    start = FORK.Barrier(3)
    racers = []
    for _ in range(3):
        ours, theirs = FORK.Pipe()
        process = FORK.Process(target=_race, args=(path, numbers, start, theirs))
        process.start()
        racers.append((process, ours))
    won = [ours.recv() for _, ours in racers]
    for process, _ in racers:
        process.join()
        assert process.exitcode == 0
    assert sorted(won[0] + won[1] + won[2]) == numbers
    assert sum(bool(each) for each in won) > 1, "a race that one process always wins is none"


def _store_for_ever(path: Path, told: int) -> None:
    table = ReplayCache(path, skew=SKEW)
    number = 0
    while True:
        table.remember(proof(number), proof_time=int(NOW), now=NOW)
        os.write(told, struct.pack("<I", number))
        number += 1


@pytest.mark.parametrize("kill_after", [1, 7, 100, 1500])
def test_a_process_killed_at_any_instant_neither_blocks_nor_loses_what_it_answered(path: Path, kill_after: int) -> None:
    open_table(path, entries=1 << 16).close()
    reading, writing = os.pipe()
    process = FORK.Process(target=_store_for_ever, args=(path, writing))
    process.start()
    os.close(writing)
    told = 0
    with os.fdopen(reading, "rb") as numbers:
        for _ in range(kill_after):
            told = struct.unpack("<I", numbers.read(4))[0]
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        rest = numbers.read()
    process.join()
    told += len(rest) // 4
    table = ReplayCache(path, skew=SKEW)
    assert all(seen(table, proof(number)) for number in range(told + 1))
    assert not any(seen(table, proof(number)) for number in range(told + 2, told + 2000))
    table.close()


def _hold(path: Path, held: Any, release: Any) -> None:
    with path.open("r+b") as f:
        fcntl.lockf(f, fcntl.LOCK_EX, STRIPES, 0)
        held.set()
        release.wait()


def test_a_stopped_process_that_holds_a_stripe_costs_refusals_and_once_a_quarter_of_a_second(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = open_table(path)
    naps: list[float] = []
    monkeypatch.setattr("time.sleep", naps.append)
    held, release = FORK.Event(), FORK.Event()
    process = FORK.Process(target=_hold, args=(path, held, release))
    process.start()
    held.wait()
    try:
        for number in range(200):
            with pytest.raises(ReplayTableFull):
                table.remember(proof(number), proof_time=int(NOW), now=NOW)
        assert len(naps) <= STRIPES * replay.LOCK_NAPS
    finally:
        monkeypatch.undo()
        release.set()
        process.join()
    assert not any(seen(table, proof(number)) for number in range(200)), "the lock ends with who held it, and nothing was kept"
    table.close()


# Against a dictionary.


class Model(RuleBasedStateMachine):
    """Any order of proofs, waits and restarts: what the table says is what a dictionary of expiries says."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "replay.cache"
        self.table = open_table(self.path)
        self.now = NOW
        self.expiries: dict[int, float] = {}

    @rule(number=st.integers(0, 30))
    def ask(self, number: int) -> None:
        known = self.expiries.get(number, 0) > int(self.now * 1000)
        assert seen(self.table, proof(number), now=self.now) is known
        if not known:
            self.expiries[number] = int(self.now * 1000) + 2000 * SKEW

    @rule(seconds=st.floats(0, 2.5 * SKEW))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(clean=st.booleans())
    def restart(self, clean: bool) -> None:
        if clean:
            self.table.mark_clean()
        self.table.close()
        assert reopened(self.path, now=self.now).kept
        self.table = ReplayCache(self.path, skew=SKEW)

    @invariant()
    def as_many_as_there_are(self) -> None:
        assert self.table.used(self.now) == sum(expiry > int(self.now * 1000) for expiry in self.expiries.values())

    def teardown(self) -> None:
        self.table.close()
        self.folder.cleanup()


def test_any_history_is_what_a_dictionary_says() -> None:
    run_state_machine_as_test(Model, settings=settings(max_examples=40, stateful_step_count=40))
