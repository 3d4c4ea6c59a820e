"""Group commit: writes that wait while the disk syncs go together into the next sync.

One task takes what is waiting, has one worker thread apply it, tells
`on_changes`, and then the submitters; so a write is acknowledged only after
whoever must know of it knows. A write that was taken in is done, whether or
not its submitter still waits.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from cubeauth_authnode.keystore.base import (
    Change,
    Keystore,
    KeystoreBusy,
    KeystoreError,
    KeystoreStalled,
    KeystoreUnusable,
    Write,
)
from cubeauth_runtime.clock import Clock
from cubeauth_runtime.tasks import TaskOwner

log = logging.getLogger("cubeauth.keystore")

MAX_WAITING = 1024
"""Writes that wait for a commit; more are refused at once, which the caller can tell its client."""

MAX_BATCH = 256
"""Writes in one commit: bounds how long the last of them holds the first one up."""

OnChanges = Callable[[list[Change]], Awaitable[None] | None]
OnFatal = Callable[[KeystoreUnusable], None]


class _Waiting(NamedTuple):
    write: Write
    outcome: asyncio.Future[Change]


class GroupWriter:
    """The only writer of a store; made and used in one event loop. The store stays its opener's to close."""

    def __init__(
        self, store: Keystore, clock: Clock, *, on_changes: OnChanges, on_fatal: OnFatal, max_waiting: int = MAX_WAITING
    ) -> None:
        """on_changes: called in the loop with each batch's durable writes before they are acknowledged; may be async.

        on_fatal: called once, with why, where the store cannot be written any more or `on_changes` failed.
        """
        self._store = store
        self._clock = clock
        self._on_changes = on_changes
        self._on_fatal = on_fatal
        self._max_waiting = max_waiting
        self._waiting: deque[_Waiting] = deque()
        self._taken: list[_Waiting] = []
        self._wake = asyncio.Event()
        self._closing = False
        self._failure = ""
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="keystore")
        self._tasks = TaskOwner(self._died)
        self._task = self._tasks.start("keystore writer", self._run())

    async def submit(self, write: Write) -> Change:
        """Do one write, and return when it is durable and published.

        Raises the KeystoreError that is its outcome, KeystoreBusy, or KeystoreUnusable.
        """
        if self._failure or self._closing:
            raise KeystoreUnusable(self._failure or "the keystore is closing; send this to the one that follows")
        if len(self._waiting) >= self._max_waiting:
            raise KeystoreBusy(f"{self._max_waiting} writes are waiting already; try again in a moment")
        waiting = _Waiting(write, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._wake.set()
        return await waiting.outcome

    async def close(self) -> None:
        """Finish what waits, take nothing more."""
        self._closing = True
        self._wake.set()
        await asyncio.wait({self._task})
        self._thread.shutdown()

    async def _run(self) -> None:
        while self._waiting or not self._closing:
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
                continue
            self._taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_BATCH))]
            await self._commit(self._taken)

    async def _commit(self, taken: list[_Waiting]) -> None:
        apply = partial(self._store.apply, [waiting.write for waiting in taken], now=int(self._clock.now()))
        try:
            outcomes = await asyncio.get_running_loop().run_in_executor(self._thread, apply)
        except KeystoreStalled as e:
            log.error("writes refused: %s", e)
            for waiting in taken:
                _resolve(waiting, KeystoreStalled(str(e)))
            return
        changes = [outcome for outcome in outcomes if isinstance(outcome, Change)]
        if changes:
            published = self._on_changes(changes)
            if inspect.isawaitable(published):
                await published
        for waiting, outcome in zip(taken, outcomes, strict=True):
            _resolve(waiting, outcome)

    def _died(self, _name: str, error: BaseException) -> None:
        self._failure = (
            str(error) if isinstance(error, KeystoreUnusable) else f"the keystore's writer died: {type(error).__name__}"
        )
        for waiting in (*self._taken, *self._waiting):
            _resolve(waiting, KeystoreUnusable(self._failure))
        self._waiting.clear()
        self._on_fatal(KeystoreUnusable(self._failure))


def _resolve(waiting: _Waiting, outcome: Change | KeystoreError) -> None:
    if waiting.outcome.done():  # its submitter was cancelled
        return
    if isinstance(outcome, Change):
        waiting.outcome.set_result(outcome)
    else:
        waiting.outcome.set_exception(outcome)
