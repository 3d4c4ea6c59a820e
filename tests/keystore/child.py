"""What the tests run as another process: `python -m tests.keystore.child COMMAND FOLDER`, on SqliteBackend's store there.

hold   own the store until standard input ends
fork   own the store, and fork a child that outlives us until standard input ends
write  several submitters write for ever; one line on standard output for each acknowledged write
fill   write until a file would grow past a limit; then one line with the last acknowledged sequence
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.keystore.backends import MASTER, SqliteBackend, create, put

from cubeauth.caps import Capabilities
from cubeauth.keys import KeyRecord
from cubeauth_authnode.keystore.base import (
    CapabilityChange,
    ChangeCapabilities,
    DeleteKey,
    Keystore,
    KeystoreUnusable,
    KeyUnknown,
    Write,
)
from cubeauth_authnode.keystore.writer import GroupWriter
from cubeauth_runtime.clock import SystemClock

SUBMITTERS = 6
IDS_EACH = 3
FILE_LIMIT = 256 * 1024


def ids_of(submitter: int) -> list[str]:
    return [f"w{submitter}k{n}" for n in range(IDS_EACH)]


def find(store: Keystore, principal: str) -> KeyRecord | None:
    try:
        return store.get(principal)
    except KeyUnknown:
        return None


def next_write(principal: str, record: KeyRecord | None) -> Write:
    """Each id goes round: made, given a capability, deleted."""
    if record is None:
        return create(principal, Capabilities())
    if record.caps == Capabilities().to_json():
        return ChangeCapabilities(CapabilityChange.ADD, MASTER, id=principal)
    return DeleteKey(principal)


class State(NamedTuple):
    """What an acknowledged write says of the key, without the key."""

    kvno: int
    create_ts: int
    caps: str
    digest: str


def state(record: KeyRecord) -> State:
    material = record.auth_key.reveal() + record.access_key.encode() + record.secret_key.reveal()
    return State(record.kvno, record.create_ts, record.caps, hashlib.sha256(material).hexdigest())


def _say(text: str) -> None:
    os.write(sys.stdout.fileno(), f"{text}\n".encode())


def hold(backend: SqliteBackend) -> None:
    store = backend.open()
    _say("ready")
    sys.stdin.read()
    store.close()


def fork(backend: SqliteBackend) -> None:
    backend.open()
    if os.fork() == 0:
        _say(str(os.getpid()))
        sys.stdin.read()
        os._exit(0)
    os.wait()


def fill(backend: SqliteBackend) -> None:
    store = backend.open()
    put(store, "first")
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_LIMIT, FILE_LIMIT))
    try:
        for n in range(100_000):
            put(store, f"id{n}")
    except KeystoreUnusable as e:
        _say(json.dumps([store.sequence, len(list(store.records())), str(e)]))


async def write(backend: SqliteBackend) -> None:
    store = backend.open()
    writer = GroupWriter(store, SystemClock(), on_changes=lambda _: None, on_fatal=lambda error: _say(f"fatal {error}"))
    async with asyncio.TaskGroup() as submitters:
        for n in range(SUBMITTERS):
            submitters.create_task(_submit_for_ever(store, writer, ids_of(n)))


async def _submit_for_ever(store: Keystore, writer: GroupWriter, ids: Sequence[str]) -> None:
    records = {id: find(store, id) for id in ids}
    while True:
        for id in ids:
            change = await writer.submit(next_write(id, records[id]))
            gone = change.kind == "delete"
            records[id] = None if gone else change.record
            _say(json.dumps([change.sequence, id, None if gone else state(change.record)]))


def main() -> None:
    command, folder = sys.argv[1:]
    backend = SqliteBackend(Path(folder))
    match command:
        case "hold":
            hold(backend)
        case "fork":
            fork(backend)
        case "fill":
            fill(backend)
        case "write":
            asyncio.run(write(backend))


if __name__ == "__main__":
    main()
