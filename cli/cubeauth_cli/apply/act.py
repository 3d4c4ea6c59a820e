"""Doing what was decided: the actions of one key in order, those of different keys beside each other.

A key stops at its first failure; the next run decides again from what it then
sees. Two failures end the whole run: a journal that cannot be written, and an
Authnode that does not answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from cubeauth.errors import CubeauthError
from cubeauth_cli.administrator import find_key, is_unknown_key
from cubeauth_cli.apply.folder import KeyFolder
from cubeauth_cli.apply.journal import Journal, JournalUnwritable
from cubeauth_cli.in_flight import REQUESTS, run_all
from cubeauth_client.admin import AdminClient
from cubeauth_client.errors import AuthnodeRefused, AuthnodeUnreachable, TicketUnavailable
from cubeauth_client.replies import KeyInfo
from cubeauth_resources.actions import (
    Action,
    ClaimKey,
    CreateKey,
    DeleteKey,
    RecordKeystore,
    RecordMade,
    RemoveKeyFile,
    SetCapabilities,
    Unclaim,
    WriteKeyFile,
)
from cubeauth_resources.claims import Claim, ClaimState

KEYS = 256
"""Keys under way at a time: their claims share a writing of the journal. If the run is killed, so many claims at most are
without a key."""


class KeyChanged(CubeauthError):
    """Between looking and doing, somebody else took the key away or made it anew."""


@dataclass(slots=True)
class Outcome:
    """What became of one key's actions. error: why `failed` was not done; left: what was not tried."""

    id: str
    done: list[Action] = field(default_factory=list)
    failed: Action | None = None
    error: str = ""
    left: tuple[Action, ...] = ()


def id_of(action: Action) -> str:
    """Whom it is about; "" for the keystore."""
    return "" if isinstance(action, RecordKeystore) else action.id


def chains(actions: Iterable[Action]) -> list[list[Action]]:
    """The actions of each key, in the order of the first of each."""
    found: dict[str, list[Action]] = {}
    for action in actions:
        found.setdefault(id_of(action), []).append(action)
    return list(found.values())


class Run:
    """stock: the Authnode has no atomic change of capabilities."""

    def __init__(self, admin: AdminClient, folder: KeyFolder, journal: Journal, *, stock: bool) -> None:
        self._admin = admin
        self._folder = folder
        self._journal = journal
        self._stock = stock
        self._requests = asyncio.Semaphore(REQUESTS)
        self._made: dict[str, int] = {}
        self._before: dict[str, Claim | None] = {}
        self._no_answer = False

    async def act(self, actions: Iterable[Action], on_done: Callable[[Outcome], None]) -> None:
        """Do all; `on_done` hears of each key in the order of `actions`. Raises JournalUnwritable."""
        works = [partial(self._chain, chain) for chain in chains(actions)]
        await run_all(works, limit=KEYS, on_done=on_done)

    async def _chain(self, actions: Sequence[Action]) -> Outcome:
        outcome = Outcome(id_of(actions[0]))
        for place, action in enumerate(actions):
            if self._no_answer:
                outcome.left = tuple(actions[place:])
                return outcome
            try:
                await self._do(action)
            except JournalUnwritable:
                raise
            except CubeauthError as e:
                if isinstance(e, (AuthnodeUnreachable, TicketUnavailable)):
                    self._no_answer = True
                outcome.failed, outcome.error, outcome.left = action, str(e), tuple(actions[place + 1 :])
                return outcome
            outcome.done.append(action)
        return outcome

    async def _do(self, action: Action) -> None:
        match action:
            case RecordKeystore():
                await self._journal.record_keystore(action.keystore)
            case ClaimKey():
                self._before[action.id] = self._journal.find(action.id)
                await self._journal.put(action.claim)
            case CreateKey():
                await self._create(action)
            case RecordMade():
                made = self._made[action.id] if action.create_ts is None else action.create_ts
                await self._journal.record_made(action.id, made)
            case SetCapabilities():
                await self._set_capabilities(action)
            case WriteKeyFile():
                info = await self._ours(action.id, self._journal.claim(action.id).create_ts)
                await asyncio.to_thread(self._folder.write_key, action.file, info.key_file())
            case DeleteKey():
                await self._delete(action)
            case RemoveKeyFile():
                await asyncio.to_thread(self._folder.remove_key, action.file)
            case Unclaim():
                await self._journal.drop(action.id)

    async def _ask(self, request: Callable[[], Awaitable[KeyInfo]]) -> KeyInfo:
        async with self._requests:
            return await request()

    async def _create(self, action: CreateKey) -> None:
        text = action.capabilities.to_json()
        try:
            made = await self._ask(partial(self._admin.create_key, action.id, action.role, text))
        except AuthnodeUnreachable as e:
            if not e.outcome_unknown:
                await self._take_back(action.id)
            raise
        except CubeauthError:
            await self._take_back(action.id)
            raise
        self._made[action.id] = made.create_ts

    async def _take_back(self, principal: str) -> None:
        """No key was made. A claim that stays would take a key for ours that somebody else makes; so what was known before is
        put back: of a key that is gone its create_ts, by which it is told from a later one."""
        before = self._before.get(principal)
        if before is not None and before.state is ClaimState.MADE:
            await self._journal.put(before)
        else:
            await self._journal.drop(principal)

    async def _set_capabilities(self, action: SetCapabilities) -> None:
        if not self._stock:
            await self._ask(partial(self._admin.set_caps, action.id, action.after))
            return
        if len(action.removed):
            await self._ask(partial(self._admin.delete_caps, action.id, action.removed.to_json()))
        if len(action.added):
            await self._ask(partial(self._admin.add_caps, action.id, action.added.to_json()))

    async def _delete(self, action: DeleteKey) -> None:
        async with self._requests:
            info = await find_key(self._admin, action.id)
        if info is None:
            return
        if info.create_ts != action.create_ts:
            raise _changed(action.id)
        try:
            await self._ask(partial(self._admin.delete_key, action.id))
        except AuthnodeRefused as e:
            if not is_unknown_key(e):
                raise

    async def _ours(self, principal: str, create_ts: int) -> KeyInfo:
        """The very key that was decided about. Raises KeyChanged."""
        async with self._requests:
            info = await find_key(self._admin, principal)
        if info is None or info.create_ts != create_ts:
            raise _changed(principal)
        return info


def _changed(principal: str) -> KeyChanged:
    return KeyChanged(f"{principal!r} was deleted or made anew by somebody else meanwhile; apply again, which looks anew")
