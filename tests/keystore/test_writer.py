"""Group commit: many submitters, few commits, each told its own outcome and only when it may be."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing

import pytest
from tests.keystore.backends import Backend, SqliteBackend, create, put

from cubeauth_authnode.keystore.base import (
    Change,
    DeleteKey,
    KeyExists,
    Keystore,
    KeystoreBusy,
    KeystoreError,
    KeystoreUnusable,
    KeyUnknown,
    Write,
)
from cubeauth_authnode.keystore.writer import GroupWriter, OnChanges
from cubeauth_runtime.clock import SystemClock

SECONDS = 10.0
"""After which a test says what it waited for."""


class Gate:
    """A store's `apply`, held up until the gate is opened; it counts the batches."""

    def __init__(self, store: Keystore) -> None:
        self.store = store
        self.batches: list[int] = []
        self.entered = threading.Event()
        self.opened = threading.Event()
        self.threads: set[int] = set()

    def __getattr__(self, name: str) -> object:
        return getattr(self.store, name)

    def apply(self, writes: Sequence[Write], *, now: int) -> list[Change | KeystoreError]:
        self.batches.append(len(writes))
        self.threads.add(threading.get_ident())
        self.entered.set()
        assert self.opened.wait(SECONDS), "waited for the gate to be opened"
        return self.store.apply(writes, now=now)

    async def reached(self) -> None:
        assert await asyncio.to_thread(self.entered.wait, SECONDS), "waited for a batch to reach the store"


@pytest.fixture
def gate(backend: Backend) -> Iterator[Gate]:
    with closing(backend.open()) as store:
        yield Gate(store)


class Told:
    """What the writer told its owner, in order."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.fatal: list[KeystoreUnusable] = []

    def on_changes(self, changes: list[Change]) -> None:
        self.changes += changes


@asynccontextmanager
async def writing(gate: Gate, told: Told, *, on_changes: OnChanges | None = None, **limits: int) -> AsyncIterator[GroupWriter]:
    store: Keystore = gate  # type: ignore[assignment]  # the rest of it is the store's own
    writer = GroupWriter(store, SystemClock(), on_changes=on_changes or told.on_changes, on_fatal=told.fatal.append, **limits)
    try:
        yield writer
    finally:
        gate.opened.set()
        await writer.close()


async def _submitted(writer: GroupWriter, *writes: Write) -> list[asyncio.Task[Change]]:
    """Tasks that have all come as far as waiting."""
    tasks = [asyncio.create_task(writer.submit(write)) for write in writes]
    await asyncio.sleep(0)
    return tasks


async def test_what_waits_while_the_disk_syncs_is_one_commit(gate: Gate) -> None:
    told = Told()
    async with writing(gate, told) as writer:
        first = await _submitted(writer, create("first"))
        await gate.reached()
        rest = await _submitted(writer, *(create(f"id{n}") for n in range(50)))
        gate.opened.set()
        changes = await asyncio.gather(*first, *rest)
    assert gate.batches == [1, 50]
    assert [change.sequence for change in changes] == list(range(1, 52)) == [change.sequence for change in told.changes]
    assert len(gate.threads) == 1
    assert threading.get_ident() not in gate.threads


async def test_each_submitter_gets_its_own_outcome(gate: Gate) -> None:
    gate.opened.set()
    async with writing(gate, Told()) as writer:
        tasks = await _submitted(writer, create("alice"), create("alice"), DeleteKey("bob"), create("carol"))
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Change, KeyExists, KeyUnknown, Change]


async def test_a_write_is_acknowledged_only_after_it_was_published(gate: Gate) -> None:
    gate.opened.set()
    publishing, published = asyncio.Event(), asyncio.Event()

    async def publish(_changes: list[Change]) -> None:
        publishing.set()
        await published.wait()

    async with writing(gate, Told(), on_changes=publish) as writer:
        (task,) = await _submitted(writer, create("alice"))
        async with asyncio.timeout(SECONDS):
            await publishing.wait()
        assert gate.store.get("alice").id == "alice"
        assert not task.done()
        published.set()
        assert (await task).record.id == "alice"


async def test_nothing_is_published_where_nothing_changed(gate: Gate) -> None:
    gate.opened.set()
    told = Told()
    async with writing(gate, told) as writer:
        with pytest.raises(KeyUnknown):
            await writer.submit(DeleteKey("alice"))
    assert told.changes == []


async def test_a_submitter_that_goes_away_takes_no_write_with_it(gate: Gate) -> None:
    async with writing(gate, Told()) as writer:
        under_way = await _submitted(writer, create("under_way"))
        await gate.reached()
        waiting = await _submitted(writer, create("waiting"), create("other"))
        under_way[0].cancel()
        waiting[0].cancel()
        gate.opened.set()
        assert (await waiting[1]).record.id == "other"
    assert sorted(record.id for record in gate.store.records()) == ["other", "under_way", "waiting"]


async def test_more_than_the_limit_are_told_that_the_store_is_busy(gate: Gate) -> None:
    async with writing(gate, Told(), max_waiting=2) as writer:
        first = await _submitted(writer, create("a"))
        await gate.reached()
        waiting = await _submitted(writer, create("b"), create("c"))
        with pytest.raises(KeystoreBusy, match="2 writes are waiting"):
            await writer.submit(create("d"))
        gate.opened.set()
        await asyncio.gather(*first, *waiting)
        assert (await writer.submit(create("d"))).sequence == 4


async def test_close_finishes_what_waits_and_takes_nothing_more(gate: Gate) -> None:
    async with writing(gate, Told()) as writer:
        tasks = await _submitted(writer, *(create(f"id{n}") for n in range(5)))
        gate.opened.set()
        await writer.close()
        assert [task.result().sequence for task in tasks] == [1, 2, 3, 4, 5]
        with pytest.raises(KeystoreUnusable, match="closing"):
            await writer.submit(create("late"))


async def test_a_store_that_fails_fails_all_that_wait_and_says_so_once(sqlite: SqliteBackend) -> None:
    told = Told()
    with closing(sqlite.open()) as store:
        put(store, "there")
        gate = Gate(store)
        async with writing(gate, told) as writer:
            taken = await _submitted(writer, create("a"), create("there"))
            await gate.reached()
            waiting = await _submitted(writer, create("b"), create("c"))
            sqlite.witness.parent.rename(sqlite.witness.parent.with_name("away"))
            gate.opened.set()
            outcomes = await asyncio.gather(*taken, *waiting, return_exceptions=True)
            with pytest.raises(KeystoreUnusable, match="the witness"):
                await writer.submit(create("d"))
    assert [type(outcome) for outcome in outcomes] == [KeystoreUnusable] * 4
    assert [str(fatal) for fatal in told.fatal] == [str(outcomes[0])]
    assert told.changes == []


async def test_a_write_that_could_not_be_published_is_not_acknowledged(gate: Gate) -> None:
    def fail(_changes: list[Change]) -> None:
        raise OSError("the workers are gone")

    gate.opened.set()
    told = Told()
    async with writing(gate, told, on_changes=fail) as writer:
        with pytest.raises(KeystoreUnusable, match="writer died: OSError"):
            await writer.submit(create("alice"))
    assert len(told.fatal) == 1
