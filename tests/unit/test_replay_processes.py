"""The replay table among processes that race, die and stop, and against a dictionary."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from tests.support.replay_table import (
    FORK,
    NOW,
    SKEW,
    open_table,
    proof,
    reopened,
    seen,
)

from cubeauth.errors import ReplayTableFull
from cubeauth_authnode import replay
from cubeauth_authnode.replay import STRIPES, ReplayCache


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "replay.cache"


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
