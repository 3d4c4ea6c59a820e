"""Keys of another Authnode, read one by one by its own API, into a keystore that no Authnode uses.

A stock Authnode cannot list its keys, so the ids come from a file. A key is
taken whole or not at all, and what our keystore has is never changed: one
that is there with all the same is imported already, one that differs is told.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cubeauth import caps, ids
from cubeauth.errors import InputError, shown
from cubeauth.ids import Role, valid_role
from cubeauth.secret import SecretBytes
from cubeauth_cli import console, endings
from cubeauth_cli.administrator import Administrator, find_key
from cubeauth_cli.in_flight import REQUESTS, run_all
from cubeauth_client.replies import KeyInfo
from cubeauth_runtime.clock import Clock
from cubeauth_runtime.files import read_text

if TYPE_CHECKING:
    from cubeauth.keys import KeyRecord
    from cubeauth_authnode.config import AuthnodeConfig
    from cubeauth_authnode.keystore.base import ImportKey, Keystore

BATCH = 256
"""Keys in one durable write of the keystore."""


class Outcome(Enum):
    IMPORTED = "imported"
    SAME = "already there"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one id. warnings: parts of its capabilities that mean nothing and stay behind."""

    id: str
    outcome: Outcome
    text: str
    warnings: tuple[str, ...] = ()


def read_ids(path: Path) -> tuple[str, ...]:
    """One id a line, each once; empty lines and what follows a # count for nothing. Raises InputError with the line."""
    found: dict[str, None] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        name = line.partition("#")[0].strip()
        if not name:
            continue
        where = f"{path}:{number}"
        if not ids.valid_id(name):
            raise InputError("id", f"{shown(name, ids.MAX_SHOWN_ID)} is not an id", f"an id has {ids.ID_RULE}", source=where)
        if name == ids.AUTH_SERVICE:
            remedy = "its key comes from the configuration: put the old authServiceKey there, and take this line out"
            raise InputError("id", f"{name} is the Authnode itself", remedy, source=where)
        if name in ids.SERVICE_ALIASES:
            remedy = f"write {ids.canonical_service(name)}"
            raise InputError("id", f"{name} is here another name of {ids.canonical_service(name)}", remedy, source=where)
        found[name] = None
    if not found:
        raise InputError("", "no id in it", "write one id a line", source=str(path))
    return tuple(found)


def import_keys(
    config: AuthnodeConfig, admin: Administrator, principals: Iterable[str], clock: Clock, say: Callable[[Result], None]
) -> Counter[Outcome]:
    """Import; `say` hears of each id. How many ended how.

    Raises InputError, KeystoreUnusable, the client's errors. Everything is read before the keystore is opened.
    """
    counted: Counter[Outcome] = Counter()

    def told(result: Result) -> None:
        counted[result.outcome] += 1
        say(result)

    writes: list[tuple[ImportKey, tuple[str, ...]]] = []
    for principal, info in asyncio.run(_fetch(admin, tuple(principals))):
        try:
            writes.append(_write(principal, info))
        except InputError as e:
            told(Result(principal, Outcome.REFUSED, str(e)))
    if writes:
        _store(config, writes, clock, told)
    return counted


async def _fetch(admin: Administrator, principals: tuple[str, ...]) -> list[tuple[str, KeyInfo | None]]:
    found: list[tuple[str, KeyInfo | None]] = []

    async def ask(principal: str) -> tuple[str, KeyInfo | None]:
        return principal, await find_key(admin.client, principal)

    with console.progress("Reading keys", len(principals)) as advance:

        def done(answer: tuple[str, KeyInfo | None]) -> None:
            found.append(answer)
            advance()

        with admin.refusals_told():
            await run_all([partial(ask, principal) for principal in principals], limit=REQUESTS, on_done=done)
    return found


def _write(principal: str, info: KeyInfo | None) -> tuple[ImportKey, tuple[str, ...]]:
    """What takes the key over, and warnings. Raises InputError for what cannot be."""
    with endings.needing("authnode"):
        from cubeauth_authnode.keystore.base import ImportKey
    if info is None:
        raise InputError("", "the other Authnode has no such key", "take it out of the list")
    if info.auth_key is None:
        raise InputError("auth_key", "the other Authnode does not tell it", "ask with a key that holds auth:getkey:access")
    if not valid_role(info.role):
        raise InputError("role", f"{shown(info.role)} is neither client nor service", "make it a new key here")
    parsed = caps.parse(info.caps or "null")
    warnings = tuple(f"capabilities under {shown(name)} mean nothing to CubeFS and stay behind" for name in parsed.unknown)
    secret_key = info.secret_key or SecretBytes(b"")
    role, capabilities = Role(info.role), parsed.capabilities
    return ImportKey(principal, role, capabilities, info.auth_key, info.access_key, secret_key, info.create_ts), warnings


def _store(
    config: AuthnodeConfig, writes: list[tuple[ImportKey, tuple[str, ...]]], clock: Clock, told: Callable[[Result], None]
) -> None:
    with endings.needing("authnode"):
        from cubeauth_authnode import app
    store = app.open_keystore(config, now=clock.now())
    try:
        for start in range(0, len(writes), BATCH):
            for result in _apply(store, writes[start : start + BATCH], int(clock.now())):
                told(result)
    finally:
        store.close()


def _apply(store: Keystore, writes: list[tuple[ImportKey, tuple[str, ...]]], now: int) -> list[Result]:
    from cubeauth_authnode.keystore.base import KeystoreError

    there = {record.id: record for record in store.records()}
    new = [write for write, _ in writes if write.id not in there]
    outcomes = {write.id: outcome for write, outcome in zip(new, store.apply(new, now=now), strict=True)}
    results = []
    for write, warnings in writes:
        outcome = outcomes.get(write.id)
        if outcome is None:
            results.append(_compared(there[write.id], write))
        elif isinstance(outcome, KeystoreError):
            results.append(Result(write.id, Outcome.REFUSED, str(outcome)))
        else:
            count = "1 capability" if len(write.capabilities) == 1 else f"{len(write.capabilities)} capabilities"
            results.append(Result(write.id, Outcome.IMPORTED, f"imported, role {write.role.value}, {count}", warnings))
    return results


def _compared(record: KeyRecord, write: ImportKey) -> Result:
    held = caps.parse(record.caps).capabilities
    same = {
        "auth_key": record.auth_key == write.auth_key,
        "access_key": record.access_key == write.access_key,
        "secret_key": record.secret_key == write.secret_key,
        "role": record.role is write.role,
        "create_ts": record.create_ts == write.create_ts,
        "caps": not len(held.minus(write.capabilities)) and not len(write.capabilities.minus(held)),
    }
    differing = [name for name, is_same in same.items() if not is_same]
    if not differing:
        return Result(write.id, Outcome.SAME, "is there already, all the same")
    text = f"is there already and differs in {', '.join(differing)}; it is left as it is: take it out of the list"
    return Result(write.id, Outcome.REFUSED, text)
