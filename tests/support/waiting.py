"""Waiting for a condition, with a deadline and a word for what is awaited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds; far above what anything awaited here takes, so that only what never comes fails."""


def wait_for(what: str, attempt: Callable[[], T | None], *, seconds: float = PATIENCE) -> T:
    """What `attempt` gives once it gives something else than None or False."""
    deadline = time.monotonic() + seconds
    while True:
        found = attempt()
        if found is not None and found is not False:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s for {what}")
        time.sleep(0.01)


async def until(what: str, condition: Callable[[], bool], *, seconds: float = PATIENCE) -> None:
    """Return once `condition` holds, letting the event loop run in between."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s for {what}")
        await asyncio.sleep(0.005)
