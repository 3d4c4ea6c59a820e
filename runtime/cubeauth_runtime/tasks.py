"""Owned background tasks: every task has an owner, and its death is seen.

A task that nobody awaits can die without a word and leave a process that
looks well and does nothing. An owner cancels what it started when it closes,
and reports a task that ended with an error at once: `on_death` decides
whether that ends the process (the default) or one connection.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

log = logging.getLogger("cubeauth.tasks")

OnDeath = Callable[[str, BaseException], None]


class TaskOwner:
    """Starts tasks, knows them, ends them. `on_death(name, error)` is called for each that ended with an error."""

    def __init__(self, on_death: OnDeath) -> None:
        self._on_death = on_death
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run `work` under this owner."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            log.error("background task %s died: %s: %s", task.get_name(), type(error).__name__, error)
            self._on_death(task.get_name(), error)

    def __len__(self) -> int:
        return len(self._tasks)

    async def close(self) -> None:
        """Cancel what still runs and wait for it."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
