"""A full disk, and a file that may not grow: the batch did not happen, and what was there is there."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.keystore.backends import NOW, SqliteBackend, create, put
from tests.keystore.children import child, read_line

from cubeauth_authnode.keystore.base import KeystoreStalled, KeystoreUnusable
from cubeauth_authnode.keystore.writer import GroupWriter
from cubeauth_runtime.clock import SystemClock


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB, the store's folder on it."""
    disk = tmp_path / "store"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("cannot mount a small disk here; test_a_file_that_may_not_grow_any_more runs everywhere")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_refuses_the_whole_batch_and_goes_on_when_there_is_room(small_disk: Path, sqlite: SqliteBackend) -> None:
    with closing(sqlite.open()) as store:
        put(store, "alice")
        filler = small_disk / "filler"
        _fill(filler)
        with pytest.raises(KeystoreUnusable, match=r"keystore\.db: the disk is full; nothing was written"):
            store.apply([create(f"id{n}") for n in range(200)], now=NOW)
        assert store.sequence == 1
        assert [record.id for record in store.records()] == ["alice"]
        filler.unlink()
        assert put(store, "bob").sequence == 2
    with closing(sqlite.open()) as store:
        assert store.sequence == 2
        assert sorted(record.id for record in store.records()) == ["alice", "bob"]


async def test_a_full_disk_refuses_its_writers_and_the_next_one_goes_again(small_disk: Path, sqlite: SqliteBackend) -> None:
    fatal: list[KeystoreUnusable] = []
    with closing(sqlite.open()) as store:
        writer = GroupWriter(store, SystemClock(), on_changes=lambda _changes: None, on_fatal=fatal.append)
        filler = small_disk / "filler"
        _fill(filler)
        refused = await asyncio.gather(*(writer.submit(create(f"id{n}")) for n in range(200)), return_exceptions=True)
        assert {type(outcome) for outcome in refused} == {KeystoreStalled}
        filler.unlink()
        assert (await writer.submit(create("alice"))).sequence == 1
        await writer.close()
    assert fatal == []


def _fill(filler: Path) -> None:
    fd = os.open(filler, os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            os.write(fd, bytes(4096))
    except OSError:
        pass
    finally:
        os.close(fd)


def test_a_file_that_may_not_grow_any_more_loses_nothing_acknowledged(sqlite: SqliteBackend, tmp_path: Path) -> None:
    with child("fill", tmp_path) as process:
        sequence, keys, error = json.loads(read_line(process))
    assert sequence == keys > 1
    assert "keystore.db: " in error
    with closing(sqlite.open()) as store:
        assert store.sequence == sequence
        assert len(list(store.records())) == keys
        put(store, "after")
